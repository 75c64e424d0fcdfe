"""Where an edit goes in a constitution's text: which characters to replace, and by what.

A value that stands there is replaced in the style it has (plain, quoted, `>` or `|`), a new field takes a line behind
the first field of its part, a new principle goes behind the last one, and a removed one takes its own lines and the
comments inside them. Everything else stays as it is to the character. Only places are found here; that the result
says what was meant is checked by `editing.py`, which has a second way where there is no place.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from constitutions.drafts import as_yaml

Path_ = tuple[str | int, ...]
WIDTH = 120
"""Lines that are written anew are at most this long, where words allow it."""


class Splice(NamedTuple):
    """Characters `start` to `end` of a text become `written`."""

    start: int
    end: int
    written: str


def spliced(text: str, splices: Sequence[Splice]) -> str:
    """The text with every splice made; those at one place follow each other in the order given."""
    parts, at = [], 0
    for splice in sorted(splices, key=lambda each: each.start):
        parts += [text[at : splice.start], splice.written]
        at = splice.end
    return "".join([*parts, text[at:]])


class Places:
    """A YAML text with the places of its parts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._root: Node | None = YAML(typ="safe", pure=True).compose(text)

    def set(self, place: Path_, value: Any) -> Splice | None:
        """Give a field a value; None where it has no place of its own in the text."""
        node = self._node(place)
        if node is None:
            return self._new_field(place, value)
        if not isinstance(node, ScalarNode):
            return None
        start, end = node.start_mark.index, node.end_mark.index
        if node.style in ("|", ">"):
            return self._block(node, str(value)) if isinstance(value, str) else None
        part = self._node(place[:-1])
        inside_flow = isinstance(part, MappingNode) and part.flow_style
        indent = None if inside_flow or part is None else part.start_mark.column
        return Splice(start, end, written(value, node.start_mark.column, indent, node.style))

    def remove(self, index: int) -> Splice | None:
        """Take the lines of one principle out."""
        items = self._items()
        if len(items) < 2:
            return None
        start, end = self._lines_of(items, index)
        before, behind = self.text[:start], self.text[end:]
        if before.endswith(("\n\n", "\n\r\n")) and behind.startswith(("\n", "\r\n")):
            end += len(behind) - len(behind.lstrip("\r\n"))
        return Splice(start, end, "")

    def add(self, fields: Mapping[str, Any]) -> Splice | None:
        """Write a principle behind the last one."""
        items = self._items()
        if not items:
            return None
        start, end = self._lines_of(items, len(items) - 1)
        item = textwrap.dedent(as_yaml({"principles": [dict(fields)]}).split("\n", 1)[1])
        dash = " " * (self.text.index("-", start) - start)
        apart = "\n" if len(items) > 1 and re.search(r"\n[ \t]*\n([ \t]*#[^\n]*\n)*$", self.text[:start]) else ""
        first = "" if self.text[:end].endswith("\n") else "\n"
        return Splice(end, end, first + apart + textwrap.indent(item, dash))

    def lines(self) -> list[int]:
        """The first line (from 1) of each principle."""
        node = self._node(("principles",))
        return [each.start_mark.line + 1 for each in node.value] if isinstance(node, SequenceNode) else []

    def _node(self, place: Path_) -> Node | None:
        node = self._root
        for step in place:
            if isinstance(node, MappingNode):
                node = next((value for key, value in node.value if key.value == step), None)
            elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node

    def _items(self) -> list[Node]:
        """The principles, if each begins a line of its own."""
        node = self._node(("principles",))
        return list(node.value) if isinstance(node, SequenceNode) and not node.flow_style else []

    def _lines_of(self, items: Sequence[Node], index: int) -> tuple[int, int]:
        """Where a principle's lines begin and end; comments that are indented deeper than its dash are its own."""
        start = self._line_start(items[index].start_mark.index)
        dash = self.text.index("-", start) - start
        last = items[index].end_mark.index
        limit = self._line_start(items[index + 1].start_mark.index) if index + 1 < len(items) else last
        kept = start
        for line in re.finditer(r"[^\n]*\n|[^\n]+$", self.text[start : max(limit, self._line_end(last))]):
            content = line[0].strip()
            inside = len(line[0]) - len(line[0].lstrip()) > dash
            if line.start() == 0 or (content and inside):
                kept = start + line.end()
        return start, kept

    def _line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        """The end of the line that holds the character before `index`."""
        if self.text[:index].endswith("\n"):
            return index
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end + 1

    def _new_field(self, place: Path_, value: Any) -> Splice | None:
        part = self._node(place[:-1])
        if not isinstance(part, MappingNode) or not part.value:
            return None
        key, first = part.value[0]
        if not isinstance(first, ScalarNode) or first.style in ("|", ">"):
            return None
        end, column = first.end_mark.index, key.start_mark.column
        if part.flow_style:
            return Splice(end, end, f", {place[-1]}: {written(value, column, None)}")
        end = self.text.find("\n", end) if "\n" in self.text[end:] else len(self.text)
        line = f"\n{' ' * column}{place[-1]}: {written(value, column + len(str(place[-1])) + 2, column)}"
        return Splice(end, end, line)

    def _block(self, node: ScalarNode, value: str) -> Splice:
        """A `>` or `|` text, whose header's comment stays."""
        start = node.start_mark.index
        old = self.text[start : node.end_mark.index]
        header, _, body = old.partition("\n")
        kept = old[len(old.rstrip()) :] if body.strip() else ""
        match = re.match(r"[|>][-+0-9]*", header)
        comment = header[match.end() :].rstrip() if match else ""
        first = next((line for line in body.split("\n") if line.strip()), "")
        indent = len(first) - len(first.lstrip()) or 2
        return Splice(start, node.end_mark.index, block(value, indent, comment, literal=node.style == "|") + kept)


def written(value: Any, column: int, indent: int | None, style: str | None = None) -> str:
    """A value as YAML at a column; `indent` is that of the field it belongs to, None inside braces."""
    if not isinstance(value, str):
        return as_yaml({"k": value}).removeprefix("k:").strip() if indent is not None else json.dumps(value)
    if indent is not None and ("\n" in value or column + len(value) > WIDTH):
        return block(value, indent + 2, "", literal=False)
    if style == '"' or "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return _on_one_line({"k": value}, flow=indent is None)


def block(value: str, indent: int, comment: str, *, literal: bool) -> str:
    """A text as a `>-` block of filled lines, or as a `|-` block where it has lines of its own."""
    literal = literal or "\n" in value
    lines = value.split("\n") if literal else _filled(value, WIDTH - indent)
    body = "\n".join(" " * indent + line if line else "" for line in lines)
    return f"{'|' if literal else '>'}-{comment}\n{body}"


def _filled(value: str, width: int) -> list[str]:
    """Lines that join to the value with single spaces between them; a wider gap is never a line's end."""
    lines = [""]
    for word in re.split(r"(?<=\S) (?=\S)", value):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def _on_one_line(tree: dict[str, str], *, flow: bool) -> str:
    """A short text as YAML writes it, quoted where that is needed."""
    plain = as_yaml(tree).removeprefix("k:").strip()
    fits = "\n" not in plain and not (flow and re.search(r"[\[\]{},]", plain) and plain[0] not in "'\"")
    return plain if fits else json.dumps(tree["k"], ensure_ascii=False)
