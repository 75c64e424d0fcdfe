"""Change a constitution file as its author would: comments, order and quoting stay.

An edit of a value that stands on its line replaces exactly those characters, and a new one takes a line of its own,
so the difference is one line. Other edits (a list, a principle that comes or goes) are written by ruamel.yaml, which
keeps comments and order but may wrap long lines anew. Every edit is checked: the file must say what was meant and
nothing else. What is saved loads, or is not saved; a file that somebody else changed meanwhile is not overwritten.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from constitutions.drafts import as_yaml
from constitutions.load import parse_constitution, read_text
from constitutions.schema import Constitution
from ratify.errors import ConstitutionError
from ratify.files import write_text

Path_ = tuple[str | int, ...]


class EditableConstitution:
    """A constitution's text under edit; nothing reaches the disk before `save`."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConstitutionError: it does not load.
        """
        self.path = path
        self.text = self._on_disk = read_text(path)
        parse_constitution(self.text, path)

    @property
    def constitution(self) -> Constitution:
        """What the text says now.

        Raises:
            ConstitutionError: an edit made it invalid; with file and line.
        """
        return parse_constitution(self.text, self.path)

    def set(self, field: str, value: Any, *, principle: str | None = None) -> None:
        """Give a field (dotted, such as `aggregate.clamp`) of the file or of one principle a new plain value."""
        place: Path_ = (*(("principles", self._index(principle)) if principle else ()), *field.split("."))
        expected = _plain(self.text)
        _put(expected, place, value)
        for written in (_scalar(value), json.dumps(value, ensure_ascii=False)):
            for spliced in (_spliced(self.text, place, written), _inserted(self.text, place, written)):
                if spliced is not None and _plain_or_none(spliced) == expected:
                    self.text = spliced
                    return
        tree = self._tree()
        _put(tree, place, value)
        self._take(tree, expected)

    def rename(self, old: str, new: str) -> None:
        """Give a principle another id, and note the old one in `was`."""
        self.set("was", old, principle=old)
        self.set("id", new, principle=old)

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add a principle at the end."""
        tree, expected = self._tree(), _plain(self.text)
        tree["principles"].append(CommentedMap(fields))
        expected["principles"].append(dict(fields))
        self._take(tree, expected)

    def remove(self, principle: str) -> None:
        """Take a principle out."""
        index, tree, expected = self._index(principle), self._tree(), _plain(self.text)
        del tree["principles"][index], expected["principles"][index]
        self._take(tree, expected)

    def save(self) -> None:
        """Write the file, if it loads and nobody else has changed it.

        Raises:
            ConstitutionError: it does not load, or the file on disk is not the one that was read.
        """
        parse_constitution(self.text, self.path)
        if read_text(self.path) != self._on_disk:
            raise ConstitutionError(
                f"{self.path} has changed on disk since it was read; read it again and repeat the edit"
            )
        write_text(self.path, self.text)
        self._on_disk = self.text

    def _index(self, principle: str) -> int:
        ids = [each["id"] for each in _plain(self.text)["principles"]]
        if principle not in ids:
            raise ConstitutionError(f"{self.path} has no principle {principle!r}; its principles: {', '.join(ids)}")
        return ids.index(principle)

    def _tree(self) -> Any:
        return _round_trip().load(self.text)

    def _take(self, tree: Any, expected: Any) -> None:
        out = io.StringIO()
        _round_trip().dump(tree, out)
        if _plain_or_none(out.getvalue()) != expected:
            raise ConstitutionError(
                f"{self.path}: this edit cannot be written without touching something else; edit by hand"
            )
        self.text = out.getvalue()


def _round_trip() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def _plain_or_none(text: str) -> Any:
    try:
        return _plain(text)
    except (YAMLError, ValueError):
        return None


def _put(tree: Any, place: Path_, value: Any) -> None:
    for step in place[:-1]:
        if isinstance(step, str) and step not in tree:
            tree[step] = {}
        tree = tree[step]
    tree[place[-1]] = copy.deepcopy(value)


def _scalar(value: Any) -> str:
    """A value on one line as YAML would write it."""
    return as_yaml({"k": value}).removeprefix("k:").strip()


def _spliced(text: str, place: Path_, written: str) -> str | None:
    """The text with one single-line scalar replaced; None where there is none at the place."""
    node = _node_at(text, place)
    if not isinstance(node, ScalarNode) or node.style in ("|", ">") or "\n" in written:
        return None
    return text[: node.start_mark.index] + written + text[node.end_mark.index :]


def _inserted(text: str, place: Path_, written: str) -> str | None:
    """The text with a new field right behind the first field of the part it belongs to; None where that cannot be."""
    part = _node_at(text, place[:-1])
    if not isinstance(part, MappingNode) or not part.value or "\n" in written:
        return None
    key, value = part.value[0]
    if not isinstance(value, ScalarNode) or value.style in ("|", ">"):
        return None
    end = value.end_mark.index
    if part.flow_style:
        return f"{text[:end]}, {place[-1]}: {written}{text[end:]}"
    end = text.find("\n", end) if "\n" in text[end:] else len(text)
    return f"{text[:end]}\n{' ' * key.start_mark.column}{place[-1]}: {written}{text[end:]}"


def _node_at(text: str, place: Path_) -> Node | None:
    node: Node | None = YAML(typ="safe", pure=True).compose(text)
    for step in place:
        if isinstance(node, MappingNode):
            node = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, SequenceNode) and isinstance(step, int):
            node = node.value[step]
        else:
            return None
    return node
