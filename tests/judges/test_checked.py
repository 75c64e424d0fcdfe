"""Checks before judges: what they decide, what that is worth, and that a label says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constitutions.diff import diff_constitutions
from constitutions.schema import Constitution
from constitutions.versions import Bump
from judges.assignment import Coverage, cover
from judges.dataset import read_labels
from judges.label_table import write_label_table
from judges.labels import Labelled, label_pairs, labels_of
from judges.model_judge import ModelJudge
from judges.questions import Pair, write_questions
from judges.rules_judge import CERTAINTY, RulesJudge
from ratify.sections import JudgeSection
from ratify.types import Protocol, Verdict
from tests.judges.worlds import completion, constitution, prompt

PROTOCOLS: tuple[Protocol, ...] = ("pointwise", "pairwise")
CHECKS = "checks: [{type: max_words, value: 2}, {type: phrases_absent, phrases: [stupid]}]"
SHORT, LONG, RUDE, BOTH = "Two words.", "Now three words.", "Stupid you.", "You stupid old fool."


def judge(protocol: Protocol) -> ModelJudge:
    return ModelJudge(JudgeSection(model="m", protocol=protocol), model_hash="m")


def pairs(*texts: tuple[str, str]) -> list[Pair]:
    return [(completion(a, f"{row}/a"), completion(b, f"{row}/b")) for row, (a, b) in enumerate(texts)]


def judged(rules: Constitution, protocol: Protocol, found: list[Pair], z: float = 1.0) -> tuple[Labelled, Any]:
    """Labels when the judge says `z` to every question."""
    coverage: Coverage = cover({"p": prompt()}, found, rules.active, judge(protocol))
    sheet = write_questions({"p": prompt()}, found, rules.active, judge(protocol), coverage.open)
    verdicts = {
        key: Verdict(key=key, judge="j", principle="x", protocol=protocol, prompt_id="p", first_id="f", logit=z)
        for key in sheet.questions
    }
    return label_pairs(sheet, verdicts, {}, rules, protocol, decided=coverage.decided), sheet


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_checks_decide_where_one_reply_meets_all_and_the_other_does_not(protocol: Protocol) -> None:
    found = pairs((SHORT, LONG), (RUDE, SHORT), (SHORT, "Other two."), (LONG, RUDE), (BOTH, LONG))
    labelled, sheet = judged(constitution(f"id: p, {CHECKS}"), protocol, found)
    assert labelled.evidence.decided[:, 0].tolist() == [1, -1, 0, 0, 0]
    assert [bool(keys) for keys in sheet.keys] == [False, False, True, True, True]
    labels = labels_of(labelled)
    assert [label.outcome for label in labels] == ["a", "b", "tie", "tie", "tie"]
    assert [label.by_checks for label in labels] == [("p",), ("p",), (), (), ()]
    assert labels[0].margin == 2 * CERTAINTY == -(labels[1].margin or 0.0) and labels[0].verdict_keys == ()
    assert len(labels[2].verdict_keys) == 2


def test_a_decision_is_worth_what_the_rules_judge_says_of_all_or_nothing() -> None:
    rules = constitution("id: p, checks: [{type: max_words, value: 2}]", "id: q, weight: 3")
    for protocol in PROTOCOLS:
        labelled, _ = judged(rules, protocol, pairs((SHORT, LONG)))
        assert labels_of(labelled)[0].margin == pytest.approx((2 * CERTAINTY + 3 * 0.0) / 4)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hard_principle_vetoes_by_its_checks_and_a_clamp_bounds_them(protocol: Protocol) -> None:
    rules = constitution(
        f"id: h, severity: hard, tier: high, {CHECKS}", "id: s, weight: 99", more="aggregate: {clamp: [0.1, 0.9]}"
    )
    labelled, _ = judged(rules, protocol, pairs((LONG, SHORT)))
    assert labelled.made.vetoed.tolist() == [True]
    expected = 2 * np.log(9) if protocol == "pointwise" else np.log(9)
    assert labels_of(labelled)[0].margin == pytest.approx(-expected)


def test_hints_and_the_rules_judge_are_not_preceded_by_checks() -> None:
    found = pairs((SHORT, LONG))
    hints = constitution(f"id: p, checks_decide: false, {CHECKS}")
    assert not cover({"p": prompt()}, found, hints.active, judge("pairwise")).decided.any()
    checks = constitution(f"id: p, {CHECKS}")
    assert not cover({"p": prompt()}, found, checks.active, RulesJudge("pairwise")).decided.any()


def test_checks_say_nothing_outside_their_scope_or_draw() -> None:
    found = pairs(*[(SHORT, LONG)] * 40)
    scoped = constitution(f"id: p, applies_to: {{tags: [medical]}}, {CHECKS}", "id: q")
    assert not cover({"p": prompt()}, found, scoped.active, judge("pairwise")).decided.any()
    drawn = cover({"p": prompt()}, found, constitution(f"id: p, {CHECKS}", "id: q").active, judge("pairwise"), 1)
    assert 0 < drawn.decided[:, 0].sum() == drawn.asked[:, 0].sum() < 40


def test_pointwise_a_reply_is_asked_about_when_any_of_its_pairs_is_open() -> None:
    """Of four replies one is long: three pairs are decided, and the three short ones are compared with each other."""
    replies = [completion(text, text) for text in (SHORT, "Also two.", "Two more.", LONG)]
    every = [(a, b) for row, a in enumerate(replies) for b in replies[row + 1 :]]
    _, sheet = judged(constitution(f"id: p, {CHECKS}"), "pointwise", every)
    assert sorted(question.first.text for question in sheet.questions.values()) == ["Also two.", "Two more.", SHORT]


def test_the_table_says_what_checks_decided(tmp_path: Path) -> None:
    labelled, _ = judged(constitution(f"id: p, {CHECKS}", "id: q"), "pairwise", pairs((SHORT, LONG), (SHORT, "So so.")))
    write_label_table(tmp_path / "labels.parquet", labelled)
    back = read_labels(tmp_path / "labels.parquet")
    assert back == labels_of(labelled) and [label.by_checks for label in back] == [("p",), ()]


def test_making_a_hard_principles_checks_hints_is_a_major_change() -> None:
    old, new = (constitution(f"id: p, severity: hard{hint}, {CHECKS}") for hint in ("", ", checks_decide: false"))
    assert diff_constitutions(old, new).bump is Bump.MAJOR and diff_constitutions(new, old).bump is Bump.MINOR
