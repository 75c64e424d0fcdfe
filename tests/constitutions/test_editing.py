"""Editing changes what was meant and keeps every comment; what cannot be saved whole is not saved."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from constitutions.editing import AddPrinciple, Edit, EditableConstitution, RemovePrinciple, SetField, revised
from constitutions.load import load_constitution, parse_constitution
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


FILE = Path("c.yaml")


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
                '+  - {id: q, text: "It is, kind: {of} # true"}  # q',
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


@pytest.mark.parametrize("path", sorted((ROOT / "constitutions").glob("*.yaml")), ids=lambda path: path.name)
def test_a_principle_that_goes_or_comes_takes_its_own_lines_and_no_other(path: Path) -> None:
    ids = [each.id for each in load_constitution(path).principles]
    for name in (ids[0], ids[len(ids) // 2], ids[-1]):
        editable = EditableConstitution(path)
        before = editable.text
        editable.remove(name)
        assert name not in [each.id for each in editable.constitution.principles]
        assert {line[0] for line in changed_lines(before, editable.text)} == {"-"}
    editable = EditableConstitution(path)
    editable.add({"id": "new", "text": "The reply is new."})
    added = changed_lines(before, editable.text)
    assert [line for line in added if line != "+"] == ["+  - id: new", "+    text: The reply is new."]


def test_a_folded_text_stays_folded_with_its_comment_and_lines_of_its_own_make_it_literal() -> None:
    text = TEXT.replace("text: >-", "text: >-  # two lines")
    once = revised(text, [SetField(("principles", 0, "text"), "The reply is kind " + "and warm " * 15 + "too.")], FILE)
    lines = [line for line in changed_lines(text, once) if line[0] == "+"]
    assert lines[0].startswith("+      The reply is kind and warm") and len(lines) == 2
    assert "text: >-  # two lines" in once and all(len(line) <= 121 for line in lines)
    twice = revised(once, [SetField(("principles", 0, "text"), "One.\n\n  Two.")], FILE)
    assert "text: |-  # two lines\n      One.\n\n        Two.\n    weight: 1  # one" in twice


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from([0, 1]))
@example("yes", 1)
@example("1:30", 0)
@example("a\n\n  b\n# c", 0)
@example("a, b: {c} # 'd' \"e\"", 1)
@example("two  spaces " + "and words " * 30, 0)
@example("a\u2028b\x85c", 0)
@example("0\x07", 0)
def test_every_text_reads_back_as_it_was_meant_and_comments_stay(text: str, position: int) -> None:
    try:
        made = revised(TEXT, [SetField(("principles", position, "text"), text)], FILE)
    except ConstitutionError as refused:
        assert "by hand" in str(refused) and not text.isprintable()
        return
    tree = YAML(typ="safe", pure=True).load(made)
    assert tree["principles"][position]["text"] == text
    assert tree["principles"][1 - position] == YAML(typ="safe", pure=True).load(TEXT)["principles"][1 - position]
    assert all(f"# {mark}" in made for mark in ("the head", "raise me", "flow", "about p", "one", "short", "q"))


def test_several_edits_at_once_use_the_positions_before_them() -> None:
    edits: list[Edit] = [
        RemovePrinciple(0),
        SetField(("principles", 1, "id"), "r"),
        SetField(("principles", 1, "was"), "q"),
        AddPrinciple({"id": "s", "text": "The reply is brief."}),
    ]
    made = revised(TEXT, edits, FILE)
    assert changed_lines(TEXT, made)[-3:] == [
        '+  - {id: r, was: q, text: "The reply is true."}  # q', "+  - id: s", "+    text: The reply is brief.",
    ]  # fmt: skip
    assert [each.id for each in parse_constitution(made, FILE).principles] == ["r", "s"]


def test_a_text_that_is_not_yaml_is_one_sentence() -> None:
    with pytest.raises(ConstitutionError, match="is not valid YAML"):
        revised("principles: [", [RemovePrinciple(0)], FILE)


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
