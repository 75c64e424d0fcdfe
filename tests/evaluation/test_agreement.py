"""Agreement and kappa by hand."""

import pytest

from evaluation.agreement import (
    Case,
    agreement,
    gold_by_principle,
    gold_by_weight,
    pair_agreement,
    principle_agreement,
    reward_accuracy,
    verdict_agreement,
)
from evaluation.intervals import EvidenceError
from evaluation.judging import histogram, position_effect, summarise_judging
from ratify.types import Failure, Label, Verdict


def label(prompt: str, outcome: str, **odds: float) -> Label:
    return Label(
        prompt_id=prompt, a_id=f"{prompt}/a", b_id=f"{prompt}/b", outcome=outcome, probability=None,
        margin=None if outcome == "failed" else sum(odds.values()), by_principle=odds,
    )  # fmt: skip


def verdict(prompt: str, first: str, logit: float | None, second: str | None = None) -> Verdict:
    return Verdict(
        key="k", judge="j", principle="polite", protocol="pairwise" if second else "pointwise", prompt_id=prompt,
        first_id=first, second_id=second, logit=logit, failure=None if logit is not None else Failure.REFUSED,
    )  # fmt: skip


def test_kappa_by_hand() -> None:
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, chance 0.5, kappa 0.4 (Cohen's textbook table)."""
    cells = [(True, True, 20), (True, False, 5), (False, True, 10), (False, False, 15)]
    cases = [Case(f"p{one}{two}{at}", one, two) for one, two, count in cells for at in range(count)]
    found = agreement(cases)
    assert found.accuracy.value == pytest.approx(0.7)
    assert found.kappa.value == pytest.approx(0.4)


def test_kappa_is_absent_where_nothing_varies() -> None:
    assert agreement([Case(f"p{at}", True, True) for at in range(5)]).kappa is None


def test_ties_and_failures_are_counted_beside() -> None:
    gold = {(f"{name}/a", f"{name}/b"): "a" for name in "pqrs"} | {("t/a", "t/b"): "tie"}
    labels = [label("p", "a"), label("q", "b"), label("r", "tie"), label("s", "failed"), label("t", "a")]
    found = pair_agreement(labels, gold)
    assert (found.accuracy.value, found.accuracy.n, found.ties, found.failed) == (0.5, 2, 1, 1)


def test_gold_from_properties() -> None:
    labels = [label("p", "a"), label("q", "a"), label("r", "a")]
    known = {
        "p/a": {"polite": True, "safe": False}, "p/b": {"polite": False, "safe": True},
        "q/a": {"polite": True, "safe": True}, "q/b": {"polite": True, "safe": True},
    }  # fmt: skip
    assert gold_by_principle(labels, known, "polite") == {("p/a", "p/b"): "a", ("q/a", "q/b"): "tie"}
    assert gold_by_weight(labels, known, {"polite": 1.0, "safe": 2.0})["p/a", "p/b"] == "b"


def test_principle_agreement_reads_the_sign() -> None:
    gold = {("p/a", "p/b"): "a", ("q/a", "q/b"): "b", ("r/a", "r/b"): "b"}
    labels = [label("p", "a", polite=1.0), label("q", "a", polite=2.0), label("r", "a")]
    found = principle_agreement(labels, "polite", gold)
    assert (found.accuracy.value, found.failed) == (0.5, 1)


def test_pointwise_verdicts_against_the_truth() -> None:
    known = {"p/a": {"polite": True}, "q/a": {"polite": False}, "r/a": {"polite": True}}
    found = verdict_agreement([verdict("p", "p/a", 2.0), verdict("q", "q/a", 1.0), verdict("r", "r/a", None)], known)
    assert (found.accuracy.value, found.failed) == (0.5, 1)


def test_reward_accuracy_counts_equal_scores_one_half() -> None:
    labels = [label("p", "a"), label("q", "b"), label("r", "a"), label("s", "tie")]
    rewards = {"p/a": 1.0, "p/b": 0.0, "q/a": 1.0, "q/b": 0.0, "r/a": 0.5, "r/b": 0.5}
    assert reward_accuracy(labels, rewards).value == pytest.approx(0.5)
    with pytest.raises(EvidenceError):
        reward_accuracy(labels, {})


def test_position_bias_and_flips() -> None:
    """p: the shown first wins both times (a flip); q: the same reply wins both times."""
    verdicts = [
        verdict("p", "p/a", 1.0, "p/b"), verdict("p", "p/b", 2.0, "p/a"),
        verdict("q", "q/a", 1.0, "q/b"), verdict("q", "q/b", -2.0, "q/a"),
    ]  # fmt: skip
    found = position_effect(verdicts)
    assert (found.flips.value, found.first.value) == (0.5, 0.75)
    assert position_effect(verdicts[:1]) is None


def test_judging_counts() -> None:
    found = summarise_judging([label("p", "a", polite=2.0), label("q", "failed")], [verdict("p", "p/a", None)])
    assert found.outcomes == {"a": 1, "b": 0, "tie": 0, "failed": 1}
    assert found.failures == {"refused": 1}
    assert sum(found.margins.counts) == 1


def test_histogram_keeps_every_value() -> None:
    assert sum(histogram([0.0, 0.0]).counts) == 2
    assert sum(histogram([1.0, 2.0, 300.0]).counts) == 3
