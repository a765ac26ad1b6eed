"""A topic like `_schemas`: one compacted partition that a store reads to its end at each start."""
from . import process
from .kcat import expect
from .libraries import JVM

STORE_SECONDS = 60


class Store:
    """The store over one topic, and what has to be in it."""

    def __init__(self, tools, topic):
        self.command = [*JVM, "-cp", tools.class_path, "SchemaStoreClient", tools.bootstrap, topic]
        self.expected = {}

    def run(self, changes):
        """One life: it has to load what was there, and to end with what the changes, (key, value or None), make of it."""
        before = dict(self.expected)
        commands = []
        for key, value in changes:
            if value is None:
                self.expected.pop(key, None)
                commands.append(f"delete {key}\n")
            else:
                self.expected[key] = value
                commands.append(f"put {key} {value}\n")
        _, output, _ = process.run(self.command, STORE_SECONDS, stdin="".join(commands))
        words = [line.split(" ", 2) for line in output.splitlines()]
        expect({key: value for word, key, value in words if word == "loaded"}, before, "entries at start")
        expect({key: value for word, key, value in words if word == "stored"}, self.expected, "entries at the end")


def schema_store(tools, run):
    """Entries are added, changed and deleted; the next life begins with just what the one before left."""
    store = Store(tools, run)

    def subject(number):
        return f'{{"keytype":"SCHEMA","subject":"subject-{number}"}}'
    added = [(subject(number), f'{{"version": 1, "id": {number}}}') for number in range(30)]
    changed = [(subject(number), f'{{"version": 2, "id": {number}}}') for number in range(0, 30, 3)]
    store.run(added + changed + [(subject(number), None) for number in range(0, 30, 5)])
    store.run([(subject(number), f'{{"version": 3, "id": {number}}}') for number in range(20, 40)] + [(subject(39), None)])
    store.run([])


CELLS = {"schema-store": schema_store}
