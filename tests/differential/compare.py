"""Two answers side by side: what must differ is made equal by named rules, what differs on purpose is listed.

Both tables are the source of docs/differential.md.
"""

from dataclasses import dataclass

from tables import DIFFERENCES, RULES


@dataclass
class Question:
    """A request as it was asked of both."""

    number: int
    api: str
    version: int
    body: dict
    purpose: str = ""
    # Whether Kafka's answer to a fetch ends a partition with a piece of a batch.
    is_cut: bool = False


def normalised(question, side, answer):
    """The answer with every rule applied."""
    return walk(question, side, answer, (), answer)


def walk(question, side, value, path, parent):
    if isinstance(value, dict):
        value = {key: walk(question, side, inner, path + (key,), value) for key, inner in value.items()}
    elif isinstance(value, list):
        value = [walk(question, side, inner, path + (index,), parent) for index, inner in enumerate(value)]
    for rule in RULES:
        if rule.concerns(question, path):
            value = rule.apply(question, side, path, parent, value)
    return value


def differences(question, kafka, penstock):
    """What differs and isn't listed, and the names of the listed differences met."""
    found, listed = [], []
    for path, one, other in unequal(kafka, penstock, ()):
        for known in DIFFERENCES:
            if known.concerns(question, path, one, other):
                listed.append(known.name)
                break
        else:
            found.append((path, one, other))
    return found, listed


def unequal(one, other, path):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(set(one) | set(other), key=str):
            yield from unequal(one.get(key, "absent"), other.get(key, "absent"), path + (key,))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other)):
            yield from unequal(left, right, path + (index,))
    elif one != other:
        yield path, one, other
