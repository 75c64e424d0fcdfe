"""Change a constitution file as its author would: comments, order and quoting stay.

An edit of a text or number replaces exactly those characters, a new field takes a line of its own, and a principle
that comes or goes takes its own lines (`splices.py`). Other edits (a list) are written by ruamel.yaml, which keeps
comments and order but may wrap long lines anew. Every edit is checked: the file must say what was meant and nothing
else. What is saved loads, or is not saved; a file that somebody else changed meanwhile is not overwritten.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from constitutions.load import parse_constitution, read_text
from constitutions.schema import Constitution
from constitutions.splices import Path_, Places, Splice, spliced
from ratify.errors import ConstitutionError
from ratify.files import write_text


class SetField(NamedTuple):
    """Give a field a plain value."""

    place: Path_
    value: Any


class AddPrinciple(NamedTuple):
    """Write a principle behind the last one."""

    fields: dict[str, Any]


class RemovePrinciple(NamedTuple):
    """Take a principle out, with its lines."""

    position: int
    """From 0."""


Edit = SetField | AddPrinciple | RemovePrinciple


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
        self.edit([SetField(place, value)])

    def rename(self, old: str, new: str) -> None:
        """Give a principle another id, and note the old one in `was`."""
        place: Path_ = ("principles", self._index(old))
        self.edit([SetField((*place, "id"), new), SetField((*place, "was"), old)])

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add a principle at the end."""
        self.edit([AddPrinciple(dict(fields))])

    def remove(self, principle: str) -> None:
        """Take a principle out."""
        self.edit([RemovePrinciple(self._index(principle))])

    def edit(self, edits: Sequence[Edit]) -> None:
        """Make several edits at once; their positions are those of the text before the first of them."""
        if edits:
            self.text = revised(self.text, edits, self.path)

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


def revised(text: str, edits: Sequence[Edit], path: Path) -> str:
    """A constitution's text with edits made in it, whether it is sound or not; `path` is only named in faults.

    Raises:
        ConstitutionError: the text is not YAML, or an edit cannot be written without touching something else.
    """
    try:
        tree, places = _read(text)
    except (YAMLError, ValueError) as error:
        raise ConstitutionError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
    expected = copy.deepcopy(tree)
    for edit in _last_first(edits):
        _do(expected, edit)
    splices = [_splice(places, edit) for edit in edits]
    if None not in splices:
        made = spliced(text, [each for each in splices if each is not None])
        if _says(made, expected):
            return made
    return _rewritten(text, edits, expected, path)


@lru_cache(maxsize=4)
def _read(text: str) -> tuple[Any, Places]:
    """A text's plain values and its places; the last few are kept, as a page asks for the same text again and again."""
    return _plain(text), Places(text)


def _splice(places: Places, edit: Edit) -> Splice | None:
    if isinstance(edit, SetField):
        return places.set(edit.place, edit.value)
    return places.add(edit.fields) if isinstance(edit, AddPrinciple) else places.remove(edit.position)


def _last_first(edits: Sequence[Edit]) -> list[Edit]:
    """Fields first, then removals from the last to the first, so that no position moves before it is used."""
    removals = sorted((each for each in edits if isinstance(each, RemovePrinciple)), key=lambda each: -each.position)
    return [*(each for each in edits if not isinstance(each, RemovePrinciple)), *removals]


def _do(tree: Any, edit: Edit) -> None:
    if isinstance(edit, SetField):
        _put(tree, edit.place, edit.value)
    elif isinstance(edit, AddPrinciple):
        tree["principles"].append(CommentedMap(edit.fields) if isinstance(tree, CommentedMap) else dict(edit.fields))
    else:
        del tree["principles"][edit.position]


def _rewritten(text: str, edits: Sequence[Edit], expected: Any, path: Path) -> str:
    """The second way: ruamel.yaml writes the whole file anew."""
    tree = _round_trip().load(text)
    for edit in _last_first(edits):
        _do(tree, edit)
    out = io.StringIO()
    try:
        _round_trip().dump(tree, out)
    except YAMLError:  # a bell at the end of a folded text, for one, cannot be written
        out = io.StringIO()
    if _plain_or_none(out.getvalue()) != expected:
        raise ConstitutionError(f"{path}: this edit cannot be written without touching something else; edit by hand")
    return out.getvalue()


def _round_trip() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _plain(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def _says(text: str, expected: Any) -> bool:
    """Whether a text says what was meant. libyaml is ten times as fast and knows YAML 1.1; where the two differ, the
    slow reader decides."""
    try:
        quick = YAML(typ="safe", pure=False).load(text)
    except (YAMLError, ValueError):
        quick = None
    return bool(quick == expected) or _plain_or_none(text) == expected


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
