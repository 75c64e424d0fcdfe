"""Content hashes of constitutions, which follow from the class of each field.

Comments, the order of principles, tests and meta never change a hash. Principles that are not active move no label
and do not count. A verdict's key is not made here: it hashes the very text that the judge was sent.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from constitutions.field_classes import FieldClass, Part, class_of
from constitutions.schema import Constitution, Principle
from ratify.canonical import digest

MOVES_LABELS = frozenset(FieldClass) - {FieldClass.INERT}


def principle_hash(principle: Principle) -> str:
    """SHA-256 of what a judge reads of a principle: equal hashes need no new verdict."""
    return digest(fields_of(principle, {FieldClass.JUDGE_VISIBLE}))


def constitution_hash(constitution: Constitution) -> str:
    """SHA-256 of everything that can move a label."""
    own = {name: value for name, value in fields_of(constitution, MOVES_LABELS).items() if name != "principles"}
    principles = {principle.id: fields_of(principle, MOVES_LABELS) for principle in constitution.active}
    return digest({**own, "principles": principles})


def fields_of(part: Part, classes: Collection[FieldClass]) -> dict[str, Any]:
    """A part's fields of the given classes as plain JSON; parts without a class of their own are gone into."""
    plain: dict[str, Any] = {}
    for name, info in type(part).model_fields.items():
        kind, value = class_of(info), getattr(part, name)
        if kind is None and isinstance(value, Part):
            plain[name] = fields_of(value, classes)
        elif kind is None and isinstance(value, tuple):
            plain[name] = [fields_of(item, classes) for item in value]
        elif kind in classes:
            plain[name] = part.model_dump(mode="json", include={name})[name]
    return plain
