"""Say what pydantic found wrong with a constitution in one sentence that a writer understands, with the remedy."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from constitutions.checks import CHECK_TYPES
from constitutions.field_classes import Part
from constitutions.schema import SCHEMA, Constitution

Location = tuple[str | int, ...]


def sentence_for(error: Any) -> str:
    """One sentence for one pydantic error (`ErrorDetails`)."""
    location: Location = error["loc"]
    kind, given = str(error["type"]), error["input"]
    name = str(location[-1]) if location else "constitution"
    if location == ("schema",) and kind == "literal_error":
        return f"the schema is {given!r}, and this version of Ratify reads {SCHEMA}"
    if kind == "extra_forbidden":
        return f"unknown field {name!r}; {_nearest(location)}"
    if name == "principles" and kind in ("missing", "too_short", "tuple_type"):
        return "there are no principles; add at least one with an id and a text"
    if kind == "missing":
        return f"the field {name!r} is missing{_inside(location)}"
    if kind.startswith("union_tag"):
        what = f"unknown check type {given['type']!r}" if kind == "union_tag_invalid" else "a check needs a type"
        return f"{what}; known types: {', '.join(CHECK_TYPES)}"
    return f"{_spelled(location)}: {_reason(error)}"


def _reason(error: Any) -> str:
    kind, name = str(error["type"]), str(error["loc"][-1])
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        form = "three numbers, such as 1.0.0" if name == "version" else "small letters, digits and . _ - between them"
        return f"{error['input']!r} is not of the form that is needed: {form}"
    if kind == "string_too_short":
        return "it is empty; write something, or remove it"
    message = (
        str(error["msg"])
        .removeprefix("Input ")
        .replace("valid string", "text")
        .replace("valid tuple", "list, such as [one, two]")
    )
    given = error["input"]
    shown = "" if isinstance(given, dict | list | tuple) else f" (given: {given!r})"
    return message + shown


def _spelled(location: Location) -> str:
    """`principles.3.weight` is counted from 0; a person counts principles from 1."""
    if len(location) > 1 and location[0] == "principles" and isinstance(location[1], int):
        return ".".join([f"principle {location[1] + 1}", *map(str, location[2:])])
    return ".".join(map(str, location))


def _inside(location: Location) -> str:
    return f" in {_spelled(location[:-1])}" if len(location) > 1 else ""


def _nearest(location: Location) -> str:
    known = _known_fields(location)
    close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"


def _known_fields(location: Location) -> list[str]:
    """The fields of the part that a location lies in; a check's type in the location picks that check."""
    parts: list[type[Part]] = [Constitution]
    for step in location[:-1]:
        inner = [kind for part in parts for kind in _parts_in(_annotation(part, step))]
        tagged = [part for part in parts if step in get_args(_annotation(part, "type"))]
        parts = inner or tagged or parts
    return [info.alias or name for part in parts[:1] for name, info in part.model_fields.items()]


def _annotation(part: type[Part], name: str | int) -> Any:
    info = part.model_fields.get(str(name))
    return info.annotation if info else None


def _parts_in(annotation: Any) -> list[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts_in(argument)]
