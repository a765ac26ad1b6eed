#!/usr/bin/env python3
"""The tables of docs/cost.md: USD a month for some loads, from list prices and from figures measured by requests.py.

    tests/bench/cost.py            # prints them
    tests/bench/cost.py --write    # puts them into docs/cost.md
    tests/bench/cost.py --check    # fails if docs/cost.md has others

What was measured is in cost.json: the output of requests.py, and what it ran on. Everything else is arithmetic, here.
"""
import argparse
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "cost.md"
MEASURED = json.loads((HERE / "cost.json").read_text(encoding="utf-8"))

# USD, US East (N. Virginia), list prices without discounts; docs/cost.md says where they stand. AWS's GB is 2^30 bytes.
S3_GB_MONTH = 0.023
S3_PUT, S3_GET = 0.005 / 1000, 0.0004 / 1000
ZONE_GB = 2 * 0.01  # it is paid on each side
MACHINE_HOUR = 0.0816  # m7g.large: 2 processors, 8 GiB
DISK_GB_MONTH = 0.08  # gp3

DAY = 24 * 3600
MONTH = 30 * DAY
WEEK = 7 * DAY
MIB, GIB = 1 << 20, 1 << 30
ZONES = 3

# Metadata of a GiB of records in batches of 16 KiB, 32 of them in an object's partition (docs/scale.md), three copies, and four
# crossings of zones on its way to them.
METADATA_BYTES = 1.4e6
METADATA_COPIES, METADATA_CROSSINGS = 3, 4
# The smallest disk that one would give a database.
DISK_GB_LEAST = 20

# Merging (docs/compaction.md), by its bounds: twice, into objects of 128 MiB, the second time from stretches of 8 MiB; what was merged
# stays a day.
MERGE_OBJECT, MERGE_STRETCH, MERGE_STAYS = 128 * MIB, 8 * MIB, DAY

# Apache Kafka: three copies, each in a zone of its own; a leader is in the client's zone one time in three.
KAFKA_COPIES, ELSEWHERE = 3, 2 / 3


class Load:
    """A load and what it makes agents ask for: rates a second, measured or from a measured ratio."""

    def __init__(self, name, mib, agents, put, get):
        self.name, self.mib, self.agents, self.put, self.get = name, mib, agents, put, get

    def gb(self, seconds):
        """Records of so long."""
        return self.mib * MIB * seconds / GIB


def rate(run, operation):
    return run["per_second"][f'penstock_object_store_requests_total{{operation="{operation}"}}']


def loads():
    """Two were measured; the others have the measured ratio of GET to PUT and as many PUT as the budget gives."""
    one, ten, many = (MEASURED["runs"][name] for name in ("1", "10", "6 agents"))

    def scaled(name, mib, run, budget):
        put = budget * run["agents"]
        return Load(name, mib, run["agents"], put, rate(run, "get") / rate(run, "put") * put)
    return [
        scaled("1 MiB/s, 1 PUT/s", 1, one, 1),
        Load("1 MiB/s", 1, one["agents"], rate(one, "put"), rate(one, "get")),
        Load("10 MiB/s", 10, ten["agents"], rate(ten, "put"), rate(ten, "get")),
        scaled("100 MiB/s", 100, many, 4),
    ]


def machines(count):
    return count * MACHINE_HOUR * MONTH / 3600


def metadata_gb(load, seconds):
    return load.gb(seconds) * METADATA_BYTES / GIB


def penstock(load):
    disk = ZONES * max(DISK_GB_LEAST, 2 * metadata_gb(load, WEEK) * METADATA_COPIES / ZONES)
    return {
        "records in S3 for a week": load.gb(WEEK) * S3_GB_MONTH,
        "PUT of flushes": load.put * MONTH * S3_PUT,
        "GET of consumers at the end": load.get * MONTH * S3_GET,
        **merging(load),
        "records between zones": 0.0,
        "agents": machines(load.agents),
        "metadata store: three machines": machines(ZONES),
        "metadata store: disks": disk * DISK_GB_MONTH,
        "metadata between zones": metadata_gb(load, MONTH) * METADATA_CROSSINGS * ZONE_GB,
    }


def merging(load):
    """A request to read each flushed object and each stretch of what was merged once, one to write each merged object, twice, and what was
    merged until it is deleted."""
    puts = 2 * load.mib * MIB / MERGE_OBJECT
    gets = load.put + load.mib * MIB / MERGE_STRETCH
    return {
        "merging: PUT": puts * MONTH * S3_PUT,
        "merging: GET": gets * MONTH * S3_GET,
        "merging: what was merged, until it is deleted": 2 * load.gb(MERGE_STAYS) * S3_GB_MONTH,
    }


def kafka(load):
    return {
        "three copies on gp3, full to the last byte": load.gb(WEEK) * KAFKA_COPIES * DISK_GB_MONTH,
        "between zones: replication": load.gb(MONTH) * (KAFKA_COPIES - 1) * ZONE_GB,
        "between zones: producers": load.gb(MONTH) * ELSEWHERE * ZONE_GB,
        "between zones: consumers, unless they fetch from followers": load.gb(MONTH) * ELSEWHERE * ZONE_GB,
        "brokers: as many machines as there are agents": machines(load.agents),
    }


def table(head, columns):
    """Markdown; `columns`: of each load its lines."""
    lines = [f"| {head} | " + " | ".join(load.name for load in loads()) + " |", "|---|" + "---|" * len(columns)]
    for name in columns[0]:
        lines.append(f"| {name} | " + " | ".join(usd(column[name]) for column in columns) + " |")
    lines.append("| **together** | " + " | ".join(f"**{usd(sum(column.values()))}**" for column in columns) + " |")
    return lines


def usd(amount):
    return "0" if amount == 0 else f"{amount:,.2f}" if amount < 10 else f"{amount:,.0f}"


def requests():
    lines = ["| | " + " | ".join(load.name for load in loads()) + " |", "|---|" + "---|" * len(loads())]
    for name, value in (("agents", lambda load: str(load.agents)), ("PUT/s", lambda load: f"{load.put:.1f}"),
                        ("GET/s", lambda load: f"{load.get:.1f}"), ("MiB in an object", lambda load: f"{load.mib / load.put:.2f}"),
                        ("GB kept for a week", lambda load: f"{load.gb(WEEK):,.0f}")):
        lines.append(f"| {name} | " + " | ".join(map(value, loads())) + " |")
    return lines


def tables():
    """Name → lines; docs/cost.md has a place for each."""
    return {
        "requests": requests(),
        "penstock": table("Penstock, USD a month", [penstock(load) for load in loads()]),
        "kafka": table("Apache Kafka, USD a month", [kafka(load) for load in loads()]),
    }


def page():
    """docs/cost.md with the tables of now."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in tables().items():
        place = re.compile(rf"(<!-- cost\.py: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if len(place.findall(text)) != 1:
            sys.exit(f"{PAGE} has no place, or several, for the table {name}")
        shown = "\n".join(lines)
        text = place.sub(lambda found: f"{found[1]}{shown}\n{found[2]}", text)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put them into docs/cost.md")
    parser.add_argument("--check", action="store_true", help="fail if docs/cost.md has others")
    options = parser.parse_args()
    if options.write:
        PAGE.write_text(page(), encoding="utf-8")
    elif options.check:
        if page() != PAGE.read_text(encoding="utf-8"):
            sys.exit(f"{PAGE} is out of date: tests/bench/cost.py --write")
    else:
        print("\n\n".join("\n".join(lines) for lines in tables().values()))


if __name__ == "__main__":
    main()
