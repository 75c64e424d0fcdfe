"""Labels, by hand: what verdicts add up to, what vetoes, what ties, what fails."""

from __future__ import annotations

from math import log

import pytest

from constitutions.schema import Constitution
from judges.aggregate import logit, sigmoid
from judges.labels import compute_labels
from judges.questions import PairKeys, Questionnaire
from ratify.types import Failure, Label, Verdict
from ratify.types import Protocol as JudgingProtocol
from tests.judges.worlds import constitution, pair


def label(
    rules: Constitution, views: dict[str, tuple[float | None, float | None]], protocol: JudgingProtocol = "pointwise"
) -> Label:
    """The label of a pair from each principle's two log-odds; None is a failed verdict."""
    keys = {name: PairKeys(f"{name}-a", f"{name}-b") for name in views}
    found = {
        key: Verdict(key=key, judge="j", principle=name, protocol=protocol, prompt_id="p", first_id="x", logit=z)
        for name, both in views.items()
        for key, z in zip(keys[name], both, strict=True)
        if z is not None
    }
    lost = {key: Failure.LOW_COVERAGE for both in keys.values() for key in both if key not in found}
    return compute_labels(Questionnaire({}, [pair()], [keys]), found, lost, rules, protocol)[0]


def test_pointwise_mean_of_differences_weighed() -> None:
    """p: 2 − (−1) = 3, q: 0 − 1 = −1; weights 1 and 3: M = (3 − 3)/4 = 0 … with weights 2 and 1: (6 − 1)/3 = 5/3."""
    made = label(constitution("id: p, weight: 2", "id: q"), {"p": (2.0, -1.0), "q": (0.0, 1.0)})
    assert made.margin == pytest.approx(5 / 3) and made.probability == pytest.approx(
        1 / (1 + 2.718281828459045 ** (-5 / 3))
    )
    assert made.outcome == "a" and made.by_principle == {"p": 3.0, "q": -1.0}
    assert made.verdict_keys == ("p-a", "p-b", "q-a", "q-b")
    assert label(constitution("id: p", "id: q, weight: 3"), {"p": (2.0, -1.0), "q": (0.0, 1.0)}).outcome == "tie"


def test_pairwise_mean_of_both_orders_cancels_position_bias() -> None:
    """With bias 1 towards the first position: z(a,b) = 2 + 1, z(b,a) = −2 + 1; l = (3 − (−1))/2 = 2."""
    made = label(constitution("id: p"), {"p": (3.0, -1.0)}, "pairwise")
    assert made.margin == pytest.approx(2.0)


def test_swapped_order_flips_choice() -> None:
    rules = constitution("id: p, weight: 2", "id: q, severity: hard, tier: high")
    one = label(rules, {"p": (1.0, 0.5), "q": (0.2, -0.3)})
    other = label(rules, {"p": (0.5, 1.0), "q": (-0.3, 0.2)})
    assert one.margin is not None and other.margin == pytest.approx(-one.margin)
    assert (one.outcome, other.outcome) == ("a", "b")


def test_sum_and_probability_mean() -> None:
    views = {"p": (2.0, -1.0), "q": (0.0, 1.0)}
    summed = label(constitution("id: p, weight: 2", "id: q", more="aggregate: {method: logit_sum}"), views)
    assert summed.margin == pytest.approx(5.0)
    mean = label(constitution("id: p, weight: 2", "id: q", more="aggregate: {method: probability_mean}"), views)
    expected = (2 * sigmoid(3.0) + sigmoid(-1.0)) / 3
    assert mean.probability == pytest.approx(expected) and mean.margin == pytest.approx(log(expected / (1 - expected)))


def test_clamp_bounds_each_verdict_before_the_difference() -> None:
    """Clamped to [.1, .9], log-odds are at most log 9 = 2.197: l = 2.197 − (−2.197)."""
    made = label(constitution("id: p", more="aggregate: {clamp: [0.1, 0.9]}"), {"p": (50.0, -50.0)})
    assert made.margin == pytest.approx(2 * log(9))


def test_a_hard_principle_vetoes_when_one_reply_breaks_it() -> None:
    rules = constitution("id: h, severity: hard, tier: high", "id: s, weight: 9, tier: low")
    made = label(rules, {"h": (-2.0, 2.0), "s": (9.0, -9.0)})
    assert made.outcome == "b" and made.margin == pytest.approx(-4.0)


def test_a_hard_principle_that_both_meet_is_weighed() -> None:
    """Both meet h (z ≥ 0), so s with weight 9 decides: (1·(1 − 3) + 9·18)/10."""
    rules = constitution("id: h, severity: hard, tier: high", "id: s, weight: 9, tier: low")
    assert label(rules, {"h": (1.0, 3.0), "s": (9.0, -9.0)}).margin == pytest.approx((-2 + 9 * 18) / 10)


def test_a_hard_principle_within_the_veto_margin_is_weighed() -> None:
    rules = constitution("id: h, severity: hard, tier: high", "id: s, tier: low")
    assert label(rules, {"h": (-0.4, 0.4), "s": (3.0, 0.0)}).margin == pytest.approx((-0.8 + 3.0) / 2)


def test_the_higher_tier_vetoes_first() -> None:
    rules = constitution("id: low, severity: hard, tier: low", "id: high, severity: hard, tier: high")
    assert label(rules, {"low": (-9.0, 9.0), "high": (2.0, -2.0)}).margin == pytest.approx(4.0)


def test_hard_weigh_switches_vetoes_off() -> None:
    rules = constitution("id: h, severity: hard", "id: s, weight: 9", more="aggregate: {hard: weigh}")
    assert label(rules, {"h": (-2.0, 2.0), "s": (2.0, -2.0)}).outcome == "a"


def test_info_is_measured_and_never_weighed() -> None:
    rules = constitution("id: p", "id: i, severity: info, weight: 100")
    made = label(rules, {"p": (1.0, 0.0), "i": (-9.0, 9.0)})
    assert made.margin == pytest.approx(1.0) and made.by_principle == {"p": 1.0, "i": -18.0}
    assert label(rules, {"p": (1.0, 0.0), "i": (None, 9.0)}).outcome == "a"


@pytest.mark.parametrize(
    ("more", "margin", "outcome"),
    [
        ("aggregate: {min_margin: 0.5}", 0.49, "tie"),
        ("aggregate: {min_margin: 0.5}", 0.51, "a"),
        ("judge_defaults: {tie_band: 0.05}", 0.19, "tie"),  # σ(.19) = .547
        ("judge_defaults: {tie_band: 0.05}", -0.21, "b"),  # σ(−.21) = .448
    ],
)
def test_ties(more: str, margin: float, outcome: str) -> None:
    assert label(constitution("id: p", more=more), {"p": (margin, 0.0)}).outcome == outcome


def test_a_missing_verdict_fails_the_label_with_its_reason() -> None:
    made = label(constitution("id: p", "id: q"), {"p": (1.0, None), "q": (2.0, 0.0)})
    assert made.outcome == "failed" and made.probability is None and made.margin is None
    assert made.failures == ("p: low_coverage",) and made.by_principle == {"q": 2.0}
    assert made.verdict_keys == ("p-a", "q-a", "q-b")


def test_no_evidence_is_a_failure_not_a_tie() -> None:
    made = label(constitution("id: p"), {})
    assert made.outcome == "failed" and made.failures == ("no principle that is weighed applies",)


def test_logit_and_sigmoid_are_inverse_and_finite() -> None:
    assert sigmoid(logit(0.3)) == pytest.approx(0.3)
    assert abs(logit(0.0)) < 40 and sigmoid(-1000.0) == 0.0 and sigmoid(1000.0) == 1.0
