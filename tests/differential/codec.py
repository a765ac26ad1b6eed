"""Kafka's wire format, driven by the message definitions that its own client jar carries (common/message/*.json).

So what is compared doesn't pass through the codec that the broker under test uses. A message is a dict of its fields;
one that the version doesn't know is left out, one that isn't given has its default.
"""

import json
import re
import struct
import uuid
import zipfile

NULL_UUID = str(uuid.UUID(int=0))
FIXED = {"bool": ">?", "int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "int64": ">q",
         "float64": ">d"}


class DecodeError(Exception):
    """An answer that isn't what the protocol says."""


class Versions:
    """`3+`, `0-7`, `none`."""

    def __init__(self, text):
        self.low, self.high = 1, 0
        if text and text != "none":
            low, separator, high = text.partition("-")
            self.low = int(low.rstrip("+"))
            self.high = 1 << 15 if text.endswith("+") else int(high) if separator else self.low

    def __contains__(self, version):
        return self.low <= version <= self.high


class Field:
    """A field of a struct."""

    def __init__(self, declared, structs):
        self.name = declared["name"][0].upper() + declared["name"][1:]
        self.versions = Versions(declared["versions"])
        self.nullable = Versions(declared.get("nullableVersions"))
        self.tagged = Versions(declared.get("taggedVersions"))
        self.tag = declared.get("tag")
        self.is_array = declared["type"].startswith("[]")
        self.type = declared["type"].removeprefix("[]")
        self.declared_default = declared.get("default")
        self.struct = None
        if self.type[0].isupper():
            self.struct = Struct(declared["fields"], structs) if declared.get("fields") else structs[self.type]

    def default(self):
        declared = self.declared_default
        if declared == "null":
            return None
        if self.is_array:
            return []
        if self.struct:
            return {}
        if self.type == "string":
            return declared or ""
        if self.type == "bytes":
            return b""
        if self.type == "records":
            return None
        if self.type == "uuid":
            return NULL_UUID
        if self.type == "bool":
            return declared in (True, "true")
        if self.type == "float64":
            return float(declared or 0)
        return int(str(declared or 0), 0)


class Struct:
    """The fields of a message or a part of one."""

    def __init__(self, declared, structs):
        self.fields = [Field(field, structs) for field in declared]


class Structs(dict):
    """The structs that a message declares apart, made when first named."""

    def __init__(self, declared):
        super().__init__()
        self.declared = declared

    def __missing__(self, name):
        self[name] = Struct(self.declared[name], self)
        return self[name]


class Message:
    """A request or an answer of an API."""

    def __init__(self, declared):
        structs = Structs({common["name"]: common["fields"] for common in declared.get("commonStructs", [])})
        self.name = declared["name"]
        self.key = declared.get("apiKey")
        self.versions = Versions(declared["validVersions"])
        self.flexible = Versions(declared.get("flexibleVersions"))
        self.struct = Struct(declared["fields"], structs)

    def encode(self, version, value):
        out = bytearray()
        encode_struct(out, self.struct, version, version in self.flexible, value)
        return bytes(out)

    def decode(self, version, data):
        reader = Reader(data)
        value = decode_struct(reader, self.struct, version, version in self.flexible)
        if reader.at != len(data):
            raise DecodeError(f"{len(data) - reader.at} bytes behind {self.name} v{version}")
        return value


class Messages:
    """Every API's messages, from the jar of Kafka's client."""

    def __init__(self, libs):
        self.requests, self.responses = {}, {}
        jar = next(iter(sorted(libs.glob("kafka-clients-*.jar"))))
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                found = re.fullmatch(r"common/message/(\w+)(Request|Response)\.json", name)
                if not found or found[1].endswith("Header"):
                    continue
                text = re.sub(r"(^|\s)//.*", "", archive.read(name).decode(), flags=re.MULTILINE)
                declared = json.loads(text)
                if declared.get("validVersions") == "none":
                    continue
                table = self.requests if found[2] == "Request" else self.responses
                table[found[1]] = Message(declared)

    def request(self, api, version, correlation, client_id, body):
        """A whole frame."""
        message = self.requests[api]
        head = struct.pack(">hhi", message.key, version, correlation)
        name = client_id.encode()
        head += struct.pack(">h", len(name)) + name
        if version in message.flexible:
            head += b"\0"
        frame = head + message.encode(version, body)
        return struct.pack(">i", len(frame)) + frame

    def response(self, api, version, correlation, frame):
        """The answer in a frame (without its length)."""
        reader = Reader(frame)
        found = reader.fixed("int32")
        if found != correlation:
            raise DecodeError(f"correlation id {found} for {correlation}")
        message = self.responses[api]
        if version in message.flexible and api != "ApiVersions":
            for _ in range(reader.unsigned()):
                raise DecodeError("a tag in the header")
        return message.decode(version, frame[reader.at:])


class Reader:
    """Reads values off bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise DecodeError(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count:self.at]

    def fixed(self, kind):
        form = FIXED[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def unsigned(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self):
        raw = self.unsigned()
        return (raw >> 1) ^ -(raw & 1)

    def length(self, flexible, short):
        if flexible:
            return self.unsigned() - 1
        return self.fixed("int16" if short else "int32")


def unsigned_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value):
    return unsigned_varint(((value << 1) ^ (value >> 63)) & (1 << 64) - 1)


def encode_length(out, length, flexible, short):
    if flexible:
        out += unsigned_varint(length + 1)
    else:
        out += struct.pack(">h" if short else ">i", length)


def encode_struct(out, of, version, flexible, value):
    unknown = set(value) - {field.name for field in of.fields}
    if unknown:
        raise KeyError(f"no such field: {sorted(unknown)}")
    tags = []
    for field in of.fields:
        if version not in field.versions:
            continue
        given = value.get(field.name, field.default())
        if version in field.tagged:
            if given != field.default():
                tagged = bytearray()
                encode_field(tagged, field, version, flexible, given)
                tags.append((field.tag, bytes(tagged)))
        else:
            encode_field(out, field, version, flexible, given)
    if flexible:
        out += unsigned_varint(len(tags))
        for tag, data in sorted(tags):
            out += unsigned_varint(tag) + unsigned_varint(len(data)) + data


def encode_field(out, field, version, flexible, value):
    if field.is_array:
        encode_length(out, -1 if value is None else len(value), flexible, False)
        for element in value or ():
            encode_value(out, field, version, flexible, element)
    elif field.struct and version in field.nullable:
        out += struct.pack(">b", -1 if value is None else 1)
        if value is not None:
            encode_struct(out, field.struct, version, flexible, value)
    else:
        encode_value(out, field, version, flexible, value)


def encode_value(out, field, version, flexible, value):
    kind = field.type
    if field.struct:
        encode_struct(out, field.struct, version, flexible, value)
    elif kind in ("string", "bytes", "records"):
        data = value.encode() if isinstance(value, str) else value
        encode_length(out, -1 if data is None else len(data), flexible, kind == "string")
        out += data or b""
    elif kind == "uuid":
        out += uuid.UUID(value).bytes
    else:
        out += struct.pack(FIXED[kind], value)


def decode_struct(reader, of, version, flexible):
    value = {}
    for field in of.fields:
        if version in field.versions:
            tagged = version in field.tagged
            value[field.name] = field.default() if tagged else decode_field(reader, field, version, flexible)
    if flexible:
        by_tag = {field.tag: field for field in of.fields if version in field.tagged}
        for _ in range(reader.unsigned()):
            tag, size = reader.unsigned(), reader.unsigned()
            if tag not in by_tag:
                raise DecodeError(f"unknown tag {tag}")
            inner = Reader(reader.take(size))
            value[by_tag[tag].name] = decode_field(inner, by_tag[tag], version, flexible)
            if inner.at != size:
                raise DecodeError(f"bytes behind tag {tag}")
    return value


def decode_field(reader, field, version, flexible):
    if field.is_array:
        count = reader.length(flexible, False)
        if count < 0:
            return None
        return [decode_value(reader, field, version, flexible) for _ in range(count)]
    if field.struct and version in field.nullable and reader.fixed("int8") < 0:
        return None
    return decode_value(reader, field, version, flexible)


def decode_value(reader, field, version, flexible):
    kind = field.type
    if field.struct:
        return decode_struct(reader, field.struct, version, flexible)
    if kind in ("string", "bytes", "records"):
        length = reader.length(flexible, kind == "string")
        if length < 0:
            return None
        data = reader.take(length)
        return data.decode() if kind == "string" else bytes(data)
    if kind == "uuid":
        return str(uuid.UUID(bytes=bytes(reader.take(16))))
    return reader.fixed(kind)
