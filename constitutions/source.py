"""A constitution together with the file it came from: which line says what, and what a comment there silences.

Line numbers come from the YAML's own nodes, read by libyaml, so a file with thousands of principles stays cheap. A
silence is a comment `# lint: off CODE reason`: behind a field it covers that line; on a line of its own it covers
the line that follows, and above a principle's first line the whole principle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from constitutions.load import parse_constitution, read_text
from constitutions.schema import Constitution

Location = tuple[str | int, ...]

_SILENCE = re.compile(r"(?P<before>^|\s)#\s*lint:\s*off\b[ \t]*(?P<code>[\w-]*)[ \t]*(?P<reason>[^\n]*)$")


class Silence(NamedTuple):
    """One `# lint: off` comment."""

    line: int
    """Where the comment is."""
    code: str
    reason: str
    first: int
    last: int
    """The lines it covers."""


class Source:
    """A constitution that loads, with its text and its lines."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.constitution: Constitution = parse_constitution(text, path)
        self._root: Node = _compose(text)

    def line(self, *location: str | int) -> int:
        """The line (from 1) of the deepest part of a location that is in the file."""
        node: Node | None = self._root
        line = 1
        for step in location:
            if isinstance(node, MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == step), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1 if node else line
            else:
                break
        return line

    def principle_lines(self) -> list[tuple[int, int]]:
        """First and last line of each principle."""
        nodes = next(value.value for key, value in self._root.value if key.value == "principles")
        starts = [node.start_mark.line + 1 for node in nodes]
        return list(zip(starts, [*(start - 1 for start in starts[1:]), self._last_line(nodes[-1])], strict=True))

    def _last_line(self, node: Node) -> int:
        """A block ends where the next token begins, a flow or the file at its own last character."""
        flow = isinstance(node, CollectionNode) and node.flow_style
        whole = flow or node.end_mark.index >= len(self.text.rstrip())
        return max(int(node.start_mark.line) + 1, int(node.end_mark.line) + (1 if whole else 0))

    def silences(self) -> Iterator[Silence]:
        """Every `# lint: off` comment, first to last."""
        if "lint:" not in self.text:
            return
        lines = self.text.splitlines()
        blocks = dict(self.principle_lines())
        for number, line in enumerate(lines, start=1):
            match = _SILENCE.search(line)
            if match is None:
                continue
            covered = number if line[: match.start()].strip() else _next_content(lines, number)
            last = covered if covered == number else max(covered, blocks.get(covered, covered))
            yield Silence(number, match["code"], match["reason"].strip(), covered, last)


def read_source(path: Path) -> Source:
    """Read and check a constitution file, keeping its lines.

    Raises:
        ConstitutionError: the first fault, with file and line and how to mend it.
    """
    return Source(path, read_text(path))


def _compose(text: str) -> Node:
    """The YAML's nodes; libyaml is fast, but knows only YAML 1.1 and so refuses a little that is sound."""
    node: Node
    try:
        node = YAML(typ="safe", pure=False).compose(text)
    except YAMLError:
        node = YAML(typ="safe", pure=True).compose(text)
    return node


def _next_content(lines: list[str], number: int) -> int:
    """The number of the first line after `number` that is neither empty nor a comment."""
    for later in range(number, len(lines)):
        stripped = lines[later].strip()
        if stripped and not stripped.startswith("#"):
            return later + 1
    return number
