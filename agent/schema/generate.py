#!/usr/bin/env python3
"""Writes agent/src/wire/schema/requests.rs: the layout of Kafka's requests, as facts in our own notation.

    agent/schema/generate.py kafka-clients-4.1.1.jar > agent/src/wire/schema/requests.rs
    cargo fmt -p penstock-agent

The jar carries a description of every message under common/message. Taken from it: keys, version ranges, field
names and types. Not taken: documentation, defaults, anything about responses.
"""

import json
import re
import sys
import zipfile

# The memory that one value takes once it is decoded (bytes, on a 64-bit machine).
DECODED = {
    "bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "float64": 8, "uuid": 16,
    "string": 32, "bytes": 32, "records": 32,
}
ON_WIRE = {name: size for name, size in DECODED.items() if name not in ("string", "bytes", "records")}
VECTOR = 24
TAGS = 24  # the map of unknown tagged fields that each decoded struct has


def versions(text):
    """"3-13", "9+", "4", "none" as a Rust expression."""
    if text is None or text == "none":
        return "NEVER"
    if text.endswith("+"):
        return f"from({int(text[:-1])})"
    low, _, high = text.partition("-")
    return f"within({int(low)}, {int(high or low)})"


def constant(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


class Message:
    def __init__(self, description):
        self.name = description["name"]
        self.commons = {common["name"]: common["fields"] for common in description.get("commonStructs", [])}
        self.statics = []  # (name, fields as text), inner ones first
        self.seen = set()

    def size(self, field):
        kind = field["type"]
        if kind.startswith("[]"):
            return VECTOR
        if kind in DECODED:
            return DECODED[kind]
        return self.struct_size(field.get("fields") or self.commons[kind])

    def struct_size(self, fields):
        return -(-sum(self.size(field) for field in fields) // 8) * 8 + TAGS

    def struct(self, name, fields):
        """The static with the fields of a struct, and the memory that one such struct takes once decoded."""
        static = constant(self.name) + (f"_{constant(name)}" if name else "")
        if static not in self.seen:
            self.seen.add(static)
            rows = [self.field(field) for field in fields]
            self.statics.append((static, rows))
        return (static, self.struct_size(fields))

    def kind(self, name, fields):
        if name.startswith("[]"):
            return f"Array(&{self.kind(name[2:], fields)})"
        if name in ON_WIRE:
            return f"Fixed({ON_WIRE[name]})"
        if name == "string":
            return "Text"
        if name in ("bytes", "records"):
            return "Binary"
        static, decoded = self.struct(name, fields or self.commons[name])
        return f"Struct({static}, {decoded})"

    def field(self, field):
        if "flexibleVersions" in field:
            raise SystemExit(f"{self.name}.{field['name']}: a field with flexible versions of its own")
        kind = self.kind(field["type"], field.get("fields"))
        text = f'field("{field["name"]}", {versions(field["versions"])}, {kind})'
        if field.get("nullableVersions", "none") != "none":
            text += f".nullable({versions(field['nullableVersions'])})"
        if "tag" in field:
            text += f".tagged({field['tag']}, {versions(field['taggedVersions'])})"
        return text


def load(jar):
    for entry in sorted(jar.namelist()):
        if re.fullmatch(r"common/message/\w+Request\.json", entry):
            lines = jar.read(entry).decode().splitlines()
            text = "\n".join(re.sub(r"^\s*//.*", "", line) for line in lines)
            description = json.loads(text)
            if description["type"] == "request" and description["validVersions"] != "none":
                yield description


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with zipfile.ZipFile(sys.argv[1]) as jar:
        descriptions = sorted(load(jar), key=lambda description: description["apiKey"])
    print("//! Written by `agent/schema/generate.py` from Apache Kafka's message descriptions; not to be edited.")
    print()
    print("use super::Kind::{Array, Binary, Fixed, Struct, Text};")
    print("use super::{Field, NEVER, Request, field, from, within};")
    print()
    print("/// Every request of Kafka 4.1, by key.")
    print("pub(super) static REQUESTS: &[Request] = &[")
    statics = []
    for description in descriptions:
        message = Message(description)
        fields, decoded = message.struct("", description["fields"])
        statics += message.statics
        name = description["name"].removesuffix("Request")
        low, _, high = description["validVersions"].partition("-")
        print("    Request {")
        print(f"        key: {description['apiKey']},")
        print(f'        name: "{name}",')
        print(f"        valid: within({int(low)}, {int(high or low)}),")
        print(f"        flexible: {versions(description['flexibleVersions'])},")
        print(f"        fields: {fields},")
        print(f"        decoded: {decoded},")
        print("    },")
    print("];")
    for name, rows in statics:
        print()
        print(f"static {name}: &[Field] = &[")
        for row in rows:
            print(f"    {row},")
        print("];")


main()
