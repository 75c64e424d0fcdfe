"""Read a constitution: YAML 1.2, checked completely, every fault one sentence with its file and line.

YAML 1.2 matters: in 1.1 the word `no` is a boolean. Nothing in the file is run: tags (`!!python/…`) are refused,
checks come from an allow-list. Writing a file back with its comments is left to the editor.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from constitutions.load_faults import Location, sentence_for
from constitutions.schema import Constitution, faults_between_fields
from ratify.errors import ConstitutionError

MAX_NODES = 500_000
"""More values than any hand-written file has; a few anchors that refer to each other can make billions."""
MAX_DEPTH = 100
"""Deeper nesting than any constitution has."""


def load_constitution(path: Path) -> Constitution:
    """Read and check a constitution file.

    Raises:
        ConstitutionError: the first fault, with file and line and how to mend it.
    """
    return parse_constitution(read_text(path), path)


def read_text(path: Path) -> str:
    """A constitution file's text.

    Raises:
        ConstitutionError: there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConstitutionError(
            f"constitution {path} does not exist; see constitutions/ for the ones that ship"
        ) from None
    except UnicodeDecodeError as error:
        raise ConstitutionError(
            f"constitution {path} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConstitutionError(f"constitution {path} cannot be read: {error.strerror}") from None


def parse_constitution(text: str, path: Path) -> Constitution:
    """Check a constitution's text; `path` is only named in faults."""
    quick = _quickly(text)
    if quick is not None:
        return quick
    tree = _parse_yaml(text, path)
    for location, sentence in _faults_in_tree(tree):
        raise _fault(path, tree, location, sentence)
    try:
        constitution = Constitution.model_validate(_Plain(path, tree).value(tree, ()))
    except ValidationError as error:
        first, *others = (fault for fault in error.errors() if fault["type"] != "too_short" or not fault["input"])
        more = f" (and {len(others)} more)" if others else ""
        raise _fault(path, tree, first["loc"], sentence_for(first) + more) from None
    for location, sentence in faults_between_fields(constitution):
        raise _fault(path, tree, location, sentence)
    return constitution


def _quickly(text: str) -> Constitution | None:
    """The constitution by libyaml, ten times as fast, if nothing at all is wrong with the text.

    None says nothing of what is wrong: the slow parser knows the lines and finds the words. Text nested so deep that
    libyaml's recursion would end the process never gets there.
    """
    if _may_nest(text, MAX_DEPTH):
        return None
    try:
        tree: object = YAML(typ="safe", pure=False).load(text)
        if not isinstance(tree, dict) or not _is_plain(tree):
            return None
        constitution = Constitution.model_validate(tree)
    except (YAMLError, ValueError, TypeError, RecursionError, AttributeError):
        return None
    ids = {principle.id for principle in constitution.principles}
    sound = len(ids) == len(constitution.principles) and not any(faults_between_fields(constitution))
    return constitution if sound else None


def _may_nest(text: str, limit: int) -> bool:
    """Whether brackets or dashes could nest deeper than `limit`; those inside texts are counted too."""
    depth = 0
    for bracket in re.finditer(r"[][{}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        if depth > limit:
            return True
    return re.search(rf"(?:[-?:]\s){{{limit}}}", text) is not None


def _is_plain(tree: dict[Any, Any]) -> bool:
    """Whether a tree consists of at most `MAX_NODES` plain values under text keys."""
    waiting: list[Any] = [tree]
    for _ in range(MAX_NODES):
        if not waiting:
            return True
        node = waiting.pop()
        if isinstance(node, dict):
            if not all(type(key) is str for key in node):
                return False
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
        elif node is not None and type(node) not in (str, int, float, bool):
            return False
    return False


def _parse_yaml(text: str, path: Path) -> CommentedMap:
    if _may_nest(text, 10 * MAX_DEPTH):
        raise ConstitutionError.at(path, 1, "the file nests brackets or dashes without end; a constitution needs a few")
    try:
        tree: object = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(f"{error.context or ''} {error.problem or error}".split())
        raise ConstitutionError.at(path, mark.line + 1 if mark else 1, f"not valid YAML: {reason}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConstitutionError.at(path, 1, f"not valid YAML: {reason}") from None
    if not isinstance(tree, CommentedMap):
        what = "is empty" if tree is None else "is not a mapping of fields"
        raise ConstitutionError.at(path, 1, f"the file {what}; a constitution begins with `schema: constitution/v1`")
    return tree


def _faults_in_tree(tree: CommentedMap) -> Iterator[tuple[Location, str]]:
    """Faults that need lines of their own: an id that occurs twice names both."""
    principles = tree.get("principles")
    if not isinstance(principles, CommentedSeq):
        return
    seen: dict[str, int] = {}
    for index, principle in enumerate(principles):
        name = principle.get("id") if isinstance(principle, CommentedMap) else None
        if not isinstance(name, str):
            continue
        location = ("principles", index, "id")
        if name in seen:
            yield (
                location,
                f"the id {name!r} is already used on line {seen[name]}; give each principle an id of its own",
            )
        seen[name] = line_of(tree, location)


def line_of(tree: object, location: Sequence[str | int]) -> int:
    """The line (from 1) of the deepest part of a location that is in the file."""
    line = 1
    for part in location:
        if isinstance(tree, CommentedMap) and part in tree:
            line, tree = tree.lc.key(part)[0] + 1, tree[part]
        elif isinstance(tree, CommentedSeq) and isinstance(part, int) and part < len(tree):
            line, tree = tree.lc.item(part)[0] + 1, tree[part]
    return line


def _fault(path: Path, tree: object, location: Sequence[str | int], sentence: str) -> ConstitutionError:
    return ConstitutionError(f"{path}:{line_of(tree, location)}: {sentence}")


class _Plain:
    """Turn the parsed tree into plain values, counting them, and refuse what is not plain."""

    def __init__(self, path: Path, tree: CommentedMap) -> None:
        self._path = path
        self._tree = tree
        self._nodes = 0

    def value(self, node: Any, location: Location) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConstitutionError.at(
                self._path, 1, f"the file unfolds to more than {MAX_NODES:,} values; remove its anchors"
            )
        if isinstance(node, CommentedMap):
            return {self._name(key, location): self.value(value, (*location, key)) for key, value in node.items()}
        if isinstance(node, CommentedSeq):
            return [self.value(item, (*location, index)) for index, item in enumerate(node)]
        if node is None or isinstance(node, bool):
            return node
        for kind in (str, int, float):
            if isinstance(node, kind):
                return kind(node)
        if isinstance(node, datetime.date):
            return node.isoformat()
        raise _fault(
            self._path,
            self._tree,
            location,
            "this value has a YAML tag or type that is not used here; write plain text",
        )

    def _name(self, key: object, location: Location) -> str:
        if isinstance(key, str):
            return str(key)
        raise _fault(self._path, self._tree, location, f"the field name {key!r} is not a text; put it in quotes")
