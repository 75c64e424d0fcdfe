"""A constitution in the making, as importers build it: principles as plain fields, and notes about what was met on
the way.

A draft is written as YAML with a header that says where it came from. What an importer could not use is a note with
its line, never a repair; whatever is kept is kept letter by letter, but for white space at the ends.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from constitutions.load import parse_constitution
from constitutions.schema import SCHEMA, Constitution
from ratify.errors import ConstitutionError

_LITERAL = re.compile(r"[^\S\n]\n|[^\x20-\x7e\n\u00a0-\ud7ff\ue000-\ufffd]|^\s")
"""What a literal block cannot show as it is: spaces before a line's end, control characters."""


@dataclass
class Draft:
    """What an importer found."""

    path: Path
    text: str
    """The imported file."""
    tiers: list[str] = field(default_factory=list)
    principles: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """One sentence each, with file and line."""

    def note(self, line: int, sentence: str) -> None:
        """Report something about a line of the imported file."""
        self.notes.append(f"{self.path}:{line}: {sentence}")

    def line_of(self, value: str) -> int:
        """The first line that holds a value's beginning; 1 where it is spelled in another way."""
        beginning = value.strip().split("\n")[0][:60]
        at = self.text.find(beginning) if beginning else -1
        return self.text.count("\n", 0, at) + 1 if at >= 0 else 1

    def add(self, wanted: str, line: int, **fields: Any) -> None:
        """Add a principle under an id made of `wanted`; empty fields are left out."""
        taken = {each["id"] for each in self.principles}
        name = stem = slug(wanted)
        if stem != wanted:
            self.note(line, f"the id {wanted!r} is written as {stem!r}; ids are small letters, digits and . _ -")
        number = 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        if name != stem:
            self.note(line, f"the id {stem!r} occurs again; this one is called {name!r}")
        filled = {key: value for key, value in fields.items() if value not in ("", None, [], {})}
        self.principles.append({"id": name, **filled})

    def yaml(self, constitution_id: str) -> str:
        """The draft as a constitution file."""
        if not self.principles:
            raise ConstitutionError.at(self.path, 1, "nothing in this file can be imported as a principle")
        head: dict[str, Any] = {"schema": SCHEMA, "id": constitution_id, "version": "0.1.0"}
        tree = head | ({"tiers": self.tiers} if self.tiers else {}) | {"principles": self.principles}
        header = (
            f"# Imported from {self.path.name}, letter by letter. See what `ratify constitution lint` says of it\n"
            "# before a judge is paid: texts written for an author or as questions seldom make good principles.\n"
        )
        return header + as_yaml(tree)

    def constitution(self, constitution_id: str) -> Constitution:
        """The draft, checked as any constitution is."""
        return parse_constitution(self.yaml(constitution_id), self.path.with_suffix(".yaml"))


def slug(wanted: str) -> str:
    """Small letters, digits and . _ - between them."""
    return re.sub(r"[._-]{2,}", "-", re.sub(r"[^a-z0-9._-]+", "-", wanted.lower())).strip("._-")[:200] or "principle"


def as_yaml(tree: Any) -> str:
    """Plain values as YAML that a person would have written: block style, several lines as a literal block."""
    writer = YAML(typ="rt", pure=True)
    writer.width = 120
    writer.allow_unicode = True
    writer.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    writer.dump(_for_writing(tree), out)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _for_writing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _for_writing(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_for_writing(item) for item in value]
    if isinstance(value, str) and "\n" in value and not _LITERAL.search(value):
        return LiteralScalarString(value)
    return value
