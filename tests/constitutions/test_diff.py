"""A diff says what an edit means: its class, its cost and the version it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitutions.diff import ConstitutionDiff, diff_constitutions
from constitutions.field_classes import FieldClass
from constitutions.load import parse_constitution
from constitutions.versions import Bump, raised
from ratify.errors import ConstitutionError

TEXT = """schema: constitution/v1
id: x
version: 1.2.3
aggregate: {method: logit_mean, veto_margin: 1.0}
tiers: [high, low]
principles:
  - {id: p, tier: high, severity: hard, weight: 2, text: The reply is kind., checks: [{type: max_words, value: 9}]}
  - {id: q, tier: low, text: The reply is true., applies_to: {tags: [a]}}
  - {id: r, tier: low, text: The reply is short., status: draft}
"""


def diff(*edits: tuple[str, str]) -> ConstitutionDiff:
    text = TEXT
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return diff_constitutions(parse_constitution(TEXT, Path("o.yaml")), parse_constitution(text, Path("n.yaml")))


@pytest.mark.parametrize(
    ("old", "new", "field_class", "bump"),
    [
        ("is true.", "is honest.", FieldClass.JUDGE_VISIBLE, Bump.MINOR),
        ("is kind.", "is gentle.", FieldClass.JUDGE_VISIBLE, Bump.MINOR),
        ("tags: [a]", "tags: [a, b]", FieldClass.SCOPE, Bump.MINOR),
        ("weight: 2", "weight: 3", FieldClass.AGGREGATION, Bump.MINOR),
        ("weight: 2", "weight: 1", FieldClass.AGGREGATION, Bump.MAJOR),
        ("severity: hard", "severity: soft", FieldClass.AGGREGATION, Bump.MAJOR),
        ("tier: high", "tier: low", FieldClass.AGGREGATION, Bump.MAJOR),
        ("logit_mean", "logit_sum", FieldClass.AGGREGATION, Bump.MAJOR),
        ("veto_margin: 1.0", "veto_margin: 2.0", FieldClass.AGGREGATION, Bump.MAJOR),
        ("veto_margin: 1.0", "veto_margin: 0.5", FieldClass.AGGREGATION, Bump.MINOR),
        ("veto_margin: 1.0", "veto_margin: 1.0, clamp: [0.1, 0.9]", FieldClass.AGGREGATION, Bump.MINOR),
        ("max_words, value: 9", "max_words, value: 8", FieldClass.DETERMINISTIC, Bump.MAJOR),
        ("is true.", "is true., meta: {owner: me}", FieldClass.INERT, Bump.PATCH),
        ("is short.", "is brief.", FieldClass.INERT, Bump.PATCH),
        (
            "tiers:",
            "revision: {examples: [{prompt: a, reply: b, critique_request: c, critique: d, revision_request: e, "
            "revision: f}]}\ntiers:",
            FieldClass.INERT,
            Bump.PATCH,
        ),
        ("status: draft", "status: active", FieldClass.JUDGE_VISIBLE, Bump.MINOR),
    ],
)
def test_each_edit_has_one_class_and_one_bump(old: str, new: str, field_class: FieldClass, bump: Bump) -> None:
    (change,) = diff((old, new)).changes
    assert (change.field_class, change.bump) == (field_class, bump)


def test_a_new_text_has_that_principle_alone_judged_again() -> None:
    assert diff(("is true.", "is honest.")).rejudged == ("q",)
    assert diff(("weight: 2", "weight: 3")).rejudged == ()
    assert diff(("tags: [a]", "tags: [b]")).rescoped == ("q",)


def test_a_rename_keeps_the_verdicts() -> None:
    found = diff(("{id: q,", "{id: q2, was: q,"))
    assert [(change.kind, change.principle) for change in found.changes] == [("renamed", "q2")]
    assert found.renamed == {"q2": "q"} and found.rejudged == () and found.bump is Bump.MINOR


def test_a_rename_without_was_is_a_removal_and_an_addition() -> None:
    found = diff(("{id: p,", "{id: p2,"))
    assert {(change.kind, change.principle) for change in found.changes} == {("added", "p2"), ("removed", "p")}
    assert found.bump is Bump.MAJOR and found.rejudged == ("p2",)


def test_comments_are_no_difference_and_order_moves_nothing() -> None:
    assert diff(("tiers", "# why\ntiers")).changes == ()
    *head, p, q, r = TEXT.splitlines()
    shuffled = parse_constitution("\n".join([*head, r, q, p]), Path("n.yaml"))
    found = diff_constitutions(parse_constitution(TEXT, Path("o.yaml")), shuffled)
    assert [change.field_class for change in found.changes] == [FieldClass.INERT]


def test_the_version_may_be_raised_but_not_stay_below_the_computed_one() -> None:
    edit = ("is true.", "is honest.")
    assert "version 1.2.3 is below 1.3.0" in (diff(edit).version_fault or "")
    assert "below 1.3.0" in (diff(edit, ("1.2.3", "1.2.9")).version_fault or "")
    assert diff(edit, ("1.2.3", "1.3.0")).version_fault is None
    assert diff(edit, ("1.2.3", "2.0.0")).version_fault is None
    assert "below 1.2.3" in (diff(("1.2.3", "1.2.2")).version_fault or "")
    assert diff().version_fault is None


def test_numbers_after_the_raised_one_start_again() -> None:
    assert [raised("1.2.3", bump) for bump in Bump] == ["1.2.3", "1.2.4", "1.3.0", "2.0.0"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("{id: q,", "{id: q, was: p,", "n.yaml:8: principle 'q' says that it was 'p', which is still there"),
        ("{id: q,", "{id: q, conflicts_with: [z],", "n.yaml:8: principle 'q' conflicts with 'z', which does not exist"),
        (
            "text: The reply is",
            "conflicts_with: [p, q, r], text: The reply is",
            "the conflicts go round in a circle (p → p); remove one",
        ),
    ],
)
def test_references_that_cannot_hold_are_one_sentence(old: str, new: str, sentence: str) -> None:
    with pytest.raises(ConstitutionError) as caught:
        parse_constitution(TEXT.replace(old, new), Path("n.yaml"))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_long_circle_of_conflicts_is_named() -> None:
    text = TEXT
    for name, other in (("p", "q"), ("q", "r"), ("r", "p")):
        text = text.replace(f"{{id: {name},", f"{{id: {name}, conflicts_with: [{other}],")
    with pytest.raises(ConstitutionError, match="p → q → r → p"):
        parse_constitution(text, Path("n.yaml"))
