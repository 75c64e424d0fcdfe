"""Corrected win rates: by hand, and on simulated judges whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from judges.corrections import Gold, Judged, prediction_powered, rogan_gladen
from ratify.intervals import Estimate, EvidenceError, Resampling, mean

QUICK = Resampling(draws=400)
TRUE_RATE = 0.6


def simulated(seed: int, n_gold: int = 200, n: int = 1000) -> tuple[Judged, Gold]:
    """True win rate .6; the judge sees 85 % of the wins and takes 40 % of the losses for wins: it says .67."""
    generator = np.random.default_rng(seed)
    truth = (generator.random(n_gold + n) < TRUE_RATE).astype(float)
    said = (generator.random(n_gold + n) < np.where(truth > 0, 0.85, 0.4)).astype(float)
    names = [f"p{index}" for index in range(n_gold + n)]
    return Judged(said[n_gold:], names[n_gold:]), Gold(said[:n_gold], truth[:n_gold], names[:n_gold])


def holds(found: Estimate, truth: float) -> bool:
    assert found.low is not None and found.high is not None
    return found.low <= truth <= found.high


def test_rogan_gladen_by_hand() -> None:
    """q = .7, sens = 8/10, spec = 6/10: (.7 + .6 − 1)/(.8 + .6 − 1) = .75."""
    gold = Gold([1] * 8 + [0] * 2 + [0] * 6 + [1] * 4, [1] * 10 + [0] * 10, [f"g{index}" for index in range(20)])
    found = rogan_gladen(Judged([1] * 7 + [0] * 3, [f"p{index}" for index in range(10)]), gold, QUICK)
    assert found.value == pytest.approx(0.75)


def test_prediction_powered_by_hand() -> None:
    """f = 1 1 1 0 and on gold f = 1 0 1 0, y = 1 0 0 0. mean y .25, gap .75 − .5 = .25; cov = .25 − .5·.25 = .125,
    var over all eight = 5/8 − 25/64 = 15/64, λ = .125/(2·15/64) = 4/15: .25 + .25·4/15."""
    found = prediction_powered(
        Judged([1, 1, 1, 0], list("abcd")), Gold([1, 0, 1, 0], [1, 0, 0, 0], list("efgh")), QUICK
    )
    assert found.value == pytest.approx(0.25 + 1 / 15)


def test_a_judge_that_knows_nothing_leaves_gold_as_it_is() -> None:
    """f does not vary with y on gold, so λ = 0."""
    gold = Gold([1, 0, 1, 0], [1, 1, 0, 0], list("efgh"))
    assert prediction_powered(Judged([1, 1, 1, 1], list("abcd")), gold, QUICK).value == 0.5


def test_a_constant_judge_leaves_gold_as_it_is() -> None:
    gold = Gold([1, 1, 1, 1], [1, 1, 0, 1], list("efgh"))
    assert prediction_powered(Judged([1, 1], list("ab")), gold, QUICK).value == 0.75


def test_both_corrections_hold_the_true_rate_in_at_least_90_of_100_seeds_where_the_judge_s_own_does_not() -> None:
    hits = {"judge": 0, "rogan_gladen": 0, "powered": 0}
    for seed in range(100):
        judged, gold = simulated(seed)
        hits["judge"] += holds(mean(np.asarray(judged.values), judged.prompts, QUICK, share=True), TRUE_RATE)
        hits["rogan_gladen"] += holds(rogan_gladen(judged, gold, QUICK), TRUE_RATE)
        hits["powered"] += holds(prediction_powered(judged, gold, QUICK), TRUE_RATE)
    assert hits["rogan_gladen"] >= 90 and hits["powered"] >= 90 and hits["judge"] <= 10, hits


def test_the_judge_narrows_what_gold_alone_knows() -> None:
    def width(found: Estimate) -> float:
        assert found.low is not None and found.high is not None
        return found.high - found.low

    widths = []
    for seed in range(10):
        judged, gold = simulated(seed)
        alone = mean(np.asarray(gold.truth), gold.prompts, QUICK, share=True)
        widths.append(width(prediction_powered(judged, gold, QUICK)) / width(alone))
    assert np.mean(widths) < 0.95


def test_what_cannot_be_corrected_is_refused() -> None:
    judged = Judged([1, 0], ["a", "b"])
    with pytest.raises(EvidenceError, match="gold wins and gold losses"):
        rogan_gladen(judged, Gold([1, 1], [1, 1], ["c", "d"]), QUICK)
    with pytest.raises(EvidenceError, match="no better than chance"):
        rogan_gladen(judged, Gold([0, 1], [1, 0], ["c", "d"]), QUICK)
    with pytest.raises(EvidenceError, match="wins \\(1\\) and losses"):
        rogan_gladen(Judged([0.7], ["a"]), Gold([1, 0], [1, 0], ["c", "d"]), QUICK)
    with pytest.raises(EvidenceError, match="beyond gold"):
        prediction_powered(Judged([], []), Gold([1, 0], [1, 0], ["c", "d"]), QUICK)
