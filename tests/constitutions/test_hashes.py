"""What an edit costs follows from field classes: hashes move with what matters and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from constitutions.field_classes import Part, class_of
from constitutions.hashes import constitution_hash, principle_hash
from constitutions.load import parse_constitution
from constitutions.schema import Aggregate, Constitution, JudgeDefaults, Principle

TEXT = """schema: constitution/v1
id: x
version: 1.0.0
aggregate: {method: logit_mean}
tiers: [t]
principles:
  - {id: p, tier: t, weight: 1, text: be good, checks: [{type: max_words, value: 3}], meta: {owner: me}}
  - {id: q, tier: t, weight: 1, text: be kind}
"""


def loaded(text: str = TEXT) -> Constitution:
    return parse_constitution(text, Path("c.yaml"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tiers", "# a comment\ntiers"),
        ("owner: me", "owner: you"),
        ("version: 1.0.0", "version: 1.0.1"),
        ("weight: 1,", "weight: 1.0,"),
        ("text: be kind}", "text: '  be kind '}"),
        ("text: be kind}", "text: be kind, tests: [{prompt: a, a: b, b: c, expect: a}]}"),
        ("text: be kind}", "text: be kind, critique_request: where not?, revision_request: mend it}"),
        (
            "tiers",
            "revision: {examples: [{prompt: a, reply: b, critique_request: c, critique: d, revision_request: e, "
            "revision: f}]}\ntiers",
        ),
        ("text: be kind}", "text: be kind}\n  - {id: r, tier: t, text: later, status: draft}"),
    ],
)
def test_inert_edits_change_no_hash(old: str, new: str) -> None:
    assert old in TEXT
    assert constitution_hash(loaded(TEXT.replace(old, new))) == constitution_hash(loaded())


def test_the_order_of_principles_changes_no_hash() -> None:
    *head, p, q = TEXT.splitlines()
    assert constitution_hash(loaded("\n".join([*head, q, p]))) == constitution_hash(loaded())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight: 1, text: be good", "weight: 2, text: be good"),
        ("logit_mean", "logit_sum"),
        ("{id: p,", "{id: p, severity: hard,"),
        ("{id: p,", "{id: p, applies_to: {tags: [a]},"),
        ("value: 3", "value: 4"),
    ],
)
def test_edits_that_no_judge_sees_move_the_constitution_but_no_principle(old: str, new: str) -> None:
    edited = loaded(TEXT.replace(old, new))
    assert constitution_hash(edited) != constitution_hash(loaded())
    assert [*map(principle_hash, edited.principles)] == [*map(principle_hash, loaded().principles)]


def test_a_new_text_moves_that_principle_alone() -> None:
    p, q = loaded(TEXT.replace("be kind", "be kinder")).principles
    assert principle_hash(p) == principle_hash(loaded().principles[0])
    assert principle_hash(q) != principle_hash(loaded().principles[1])


@pytest.mark.parametrize("part", [Principle, JudgeDefaults, Aggregate, Constitution])
def test_every_field_has_a_class_or_holds_parts_that_have(part: type[Part]) -> None:
    for name, info in part.model_fields.items():
        inner = [kind for kind in (info.annotation, *get_args(info.annotation)) if isinstance(kind, type)]
        holds_parts = any(issubclass(kind, Part) for kind in inner)
        assert class_of(info) is not None or holds_parts, f"{part.__name__}.{name}"
