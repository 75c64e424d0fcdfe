"""Editing changes what was meant and keeps every comment; what cannot be saved whole is not saved."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest

from constitutions.editing import EditableConstitution
from constitutions.load import load_constitution
from ratify.errors import ConstitutionError
from ratify.lineage import ROOT

TEXT = """# the head
schema: constitution/v1
id: x
version: 1.0.0  # raise me
aggregate: {min_margin: 0.1}  # flow
principles:
  # about p
  - id: p
    text: >-
      The reply
      is kind.
    weight: 1  # one
    checks:
      - {type: max_words, value: 3}  # short
  - {id: q, text: "The reply is true."}  # q
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(TEXT)
    return path


def changed_lines(old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]


@pytest.mark.parametrize(
    ("principle", "field", "value", "lines"),
    [
        (None, "version", "1.0.1", ["-version: 1.0.0  # raise me", "+version: 1.0.1  # raise me"]),
        ("p", "weight", 2.5, ["-    weight: 1  # one", "+    weight: 2.5  # one"]),
        ("p", "severity", "hard", ["+    severity: hard"]),
        (
            None, "aggregate.min_margin", 0.2,
            ["-aggregate: {min_margin: 0.1}  # flow", "+aggregate: {min_margin: 0.2}  # flow"],
        ),
        (
            "q", "text", "It is, kind: {of} # true",
            [
                '-  - {id: q, text: "The reply is true."}  # q',
                "+  - {id: q, text: 'It is, kind: {of} # true'}  # q",
            ],
        ),
        (
            "q", "weight", 0.5,
            [
                '-  - {id: q, text: "The reply is true."}  # q',
                '+  - {id: q, weight: 0.5, text: "The reply is true."}  # q',
            ],
        ),
    ],
)  # fmt: skip
def test_an_edit_of_one_value_changes_one_line(
    file: Path, principle: str | None, field: str, value: Any, lines: list[str]
) -> None:
    editable = EditableConstitution(file)
    editable.set(field, value, principle=principle)
    assert changed_lines(TEXT, editable.text) == lines


def test_every_comment_survives_the_other_edits(file: Path) -> None:
    editable = EditableConstitution(file)
    editable.set("text", "The reply is\nkind\n\nto all.", principle="p")
    editable.set("applies_to", {"tags": ["a"]}, principle="p")
    editable.set("aggregate.clamp", [0.1, 0.9])
    editable.rename("p", "r")
    editable.add({"id": "s", "text": "The reply is brief."})
    editable.remove("q")
    editable.save()
    saved = file.read_text()
    assert [
        mark for mark in ("the head", "raise me", "flow", "about p", "one", "short") if f"# {mark}" not in saved
    ] == []
    constitution = load_constitution(file)
    assert [(each.id, each.was) for each in constitution.principles] == [("r", "p"), ("s", None)]
    assert constitution.principles[0].text == "The reply is\nkind\n\nto all."
    assert constitution.aggregate.clamp == (0.1, 0.9)


@pytest.mark.parametrize("path", sorted((ROOT / "constitutions").glob("*.yaml")), ids=lambda path: path.name)
def test_a_weight_in_what_ships_takes_one_line(path: Path) -> None:
    editable = EditableConstitution(path)
    before, first = editable.text, editable.constitution.principles[0]
    editable.set("weight", 7, principle=first.id)
    assert changed_lines(before, editable.text) == ["+    weight: 7"]


def test_what_does_not_load_is_not_saved(file: Path) -> None:
    editable = EditableConstitution(file)
    editable.set("weight", -1, principle="p")
    with pytest.raises(ConstitutionError, match="c.yaml:12: principle 1.weight"):
        editable.save()
    assert file.read_text() == TEXT


def test_somebody_elses_change_is_not_overwritten(file: Path) -> None:
    editable = EditableConstitution(file)
    editable.set("weight", 2, principle="p")
    file.write_text(TEXT + "# mine\n")
    with pytest.raises(ConstitutionError, match="has changed on disk"):
        editable.save()
    assert file.read_text().endswith("# mine\n")


def test_an_unknown_principle_names_the_known_ones(file: Path) -> None:
    with pytest.raises(ConstitutionError, match="has no principle 'z'; its principles: p, q"):
        EditableConstitution(file).set("weight", 2, principle="z")
