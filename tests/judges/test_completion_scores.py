"""Scores of single completions: the difference of two is the margin of their label, and what is missing has none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from constitutions.schema import Constitution
from judges.aggregate import Evidence, aggregate, sigmoid
from judges.completion_scores import asked_about, breach, completion_scores, share_of_checks
from judges.model_judge import ModelJudge
from judges.rules_judge import RulesJudge
from ratify.sections import JudgeSection
from tests.judges.worlds import constitution, prompt

SOFT = ("id: p0, weight: 2.5", "id: p1", "id: p2, severity: info", "id: p3, weight: 0.3")


def soft(method: str) -> Constitution:
    return constitution(*SOFT, more=f"aggregate: {{method: {method}, clamp: [0.05, 0.9]}}")


@pytest.mark.parametrize("method", ["logit_mean", "logit_sum"])
def test_the_difference_of_two_scores_is_the_margin_of_their_label(method: str) -> None:
    rules = soft(method)
    z = np.random.default_rng(0).normal(0, 3, (40, 4, 2))
    asked = np.random.default_rng(1).random((40, 4)) < 0.7
    margin = aggregate(Evidence(rules.active, asked, z, np.zeros((40, 4), np.int8)), rules, "pointwise").margin
    a, b = (completion_scores(z[..., side], asked, rules.active, rules) for side in (0, 1))
    np.testing.assert_allclose(a - b, margin, atol=1e-12)
    assert np.isnan(margin).any() and np.isfinite(margin).any()


def test_a_pool_of_probabilities_by_hand() -> None:
    rules = constitution("id: p0, weight: 3", "id: p1", more="aggregate: {method: probability_mean}")
    score = completion_scores(np.array([[1.0, -2.0]]), np.full((1, 2), True), rules.active, rules)
    assert sigmoid(score[0]) == pytest.approx((3 * sigmoid(1.0) + sigmoid(-2.0)) / 4)


def test_a_missing_verdict_of_a_weighed_principle_leaves_no_score() -> None:
    rules = soft("logit_mean")
    z = np.array([[1.0, 1.0, math.nan, 1.0], [1.0, math.nan, 1.0, 1.0], [math.nan] * 4])
    asked = np.array([[True] * 4, [True] * 4, [False] * 4])
    assert np.isnan(completion_scores(z, asked, rules.active, rules)).tolist() == [False, True, True]


def test_nothing_makes_up_for_a_broken_hard_principle_of_the_highest_tier() -> None:
    rules = constitution(
        "id: p0, weight: 100", "id: p1, severity: hard, tier: low", "id: p2, severity: hard, tier: high"
    )
    z = np.array([[3.0, 3.0, 3.0], [3.0, -2.0, 3.0], [3.0, -2.0, -1.5], [3.0, -0.5, 3.0], [-3.0, -2.0, 3.0]])
    scores = completion_scores(z, np.full(z.shape, True), rules.active, rules)
    mean = (100 * z[:, 0] + z[:, 1] + z[:, 2]) / 102
    np.testing.assert_allclose(scores, [mean[0], -2.0, -1.5, mean[3], mean[4]])


def test_a_failed_check_is_a_breach_that_no_judge_is_asked_about() -> None:
    checks = "checks: [{type: max_words, value: 2}]"
    rules = constitution(f"id: p0, {checks}", f"id: p1, {checks}, checks_decide: false", "id: p2")
    model = ModelJudge(JudgeSection(model="m"), model_hash="m")
    broken = [breach(principle, "Now three words.", model, rules) for principle in rules.active]
    assert broken == [-3.0, None, None]
    assert breach(rules.active[0], "Two words.", model, rules) is None
    assert breach(rules.active[0], "Now three words.", RulesJudge(), rules) is None
    clamped = constitution(f"id: p0, {checks}", more="aggregate: {clamp: [0.01, 0.99]}")
    worst = breach(clamped.active[0], "Now three words.", model, clamped)
    assert worst == pytest.approx(math.log(0.01 / 0.99))


def test_share_of_checks_counts_principles_by_weight_and_none_is_no_score() -> None:
    rules = constitution(
        "id: p0, weight: 3, checks: [{type: max_words, value: 2}]",
        "id: p1, checks: [{type: phrases_absent, phrases: [stupid]}, {type: max_words, value: 9}]",
        "id: p2, weight: 50", "id: p3, applies_to: {tags: [other]}, checks: [{type: max_words, value: 1}]",
    )  # fmt: skip
    shares = [share_of_checks(text, prompt(), rules.active) for text in ("Two words.", "Now three words.", "stupid")]
    assert shares == [1.0, 0.25, 0.75]
    assert share_of_checks("x", prompt(), rules.active[2:]) is None
    model = ModelJudge(JudgeSection(model="m"), model_hash="m")
    assert asked_about([prompt()], rules.active, model).tolist() == [[True, True, True, False]]
    assert asked_about([prompt()], rules.active, RulesJudge()).tolist() == [[True, True, False, False]]
