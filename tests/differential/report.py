"""What was compared, and docs/differential.md."""

import collections
import traceback

from tables import DIFFERENCES, RULES

SHOWN_FAILURES = 60


class Report:
    """Counts a check for each seed and API."""

    def __init__(self):
        self.asked = collections.Counter()
        self.unequal = collections.Counter()
        self.listed = collections.Counter()
        self.passed = self.failed = self.skipped = self.shown = 0

    def add(self, seed, question, found, listed):
        self.asked[seed, question.api] += 1
        for name in set(listed):
            self.listed[name] += 1
        if not found:
            return
        self.unequal[seed, question.api] += 1
        self.shown += 1
        if self.shown > SHOWN_FAILURES:
            return
        purpose = f" ({question.purpose})" if question.purpose else ""
        print(f"differs: seed {seed}, request {question.number}: {question.api} v{question.version}{purpose}")
        print(f"    asked {short(question.body, 700)}")
        for path, one, other in found[:6]:
            place = ".".join(map(str, path)) or "answer"
            print(f"    {place}: Kafka {short(one)}, Penstock {short(other)}")

    def broken(self, seed, step, action, asked, error):
        self.failed += 1
        print(f"FAILED  seed {seed}: step {step} ({action}, after request {asked}): {error!r}")
        print("".join(traceback.format_exception(error)[-3:]))

    def check(self, name, is_right):
        self.passed += is_right
        self.failed += not is_right
        print(f"{'ok     ' if is_right else 'FAILED '} {name}")

    def skip(self, name, reason):
        self.skipped += 1
        print(f"skipped {name}: {reason}")

    def seed_done(self, seed, steps, seconds):
        rows = sorted((api, count) for (of, api), count in self.asked.items() if of == seed)
        for api, count in rows:
            unequal = self.unequal[seed, api]
            self.passed += not unequal
            self.failed += bool(unequal)
            if unequal:
                print(f"FAILED  seed {seed}: {api}: {unequal} of {count} answers differ")
        total = sum(count for _, count in rows)
        unequal = sum(count for (of, _), count in self.unequal.items() if of == seed)
        print(f"{'FAILED ' if unequal else 'ok     '} seed {seed}: {steps} steps, {total} requests, {unequal} answers "
              f"differ ({seconds:.0f} s; --seed {seed} --steps {steps} repeats it)")

    def end(self):
        for name, count in sorted(self.listed.items()):
            print(f"listed difference met {count} times: {name}")
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0


def short(value, most=300):
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"


def page():
    lines = ["# Comparison with Apache Kafka", ""]
    return "\n".join(lines) + "\n"
