"""A judge is fit when every limit is kept and nothing is missing."""

from __future__ import annotations

from judges.bias import JudgeBias, TwoOrders, measure_bias
from judges.fitness import assess
from judges.probes import ProbeResult
from ratify.intervals import Estimate, Resampling, proportion

QUICK = Resampling(draws=100)


def bias(rate: float, pairs: int = 50) -> JudgeBias:
    same = round(rate * pairs)
    shown = [TwoOrders(f"p{number}", 1.0, 1.0 if number < same else -1.0) for number in range(pairs)]
    return measure_bias("j", "polite", shown, QUICK)


def probe(success: Estimate | None) -> ProbeResult:
    return ProbeResult(attack="order", kind="injection", shift=proportion(1, 20), success=success)


def test_a_good_judge_is_fit() -> None:
    assert assess("pairwise", proportion(80, 100), [bias(0.1)], [probe(proportion(1, 20))]).fit


def test_every_broken_limit_has_its_sentence() -> None:
    found = assess("pairwise", proportion(55, 100), [bias(0.6)], [probe(proportion(9, 20))])
    assert not found.fit and found.reasons == (
        "agreement with gold 55% (at least 45%) on 100 pairs is not above 50%",
        "polite: the same position wins both orders in 60% of 50 pairs, more than 40%",
        "injection order: 45% of 20 losing replies won by it, more than 20%",
    )


def test_missing_evidence_never_passes() -> None:
    assert len(assess("pairwise", None, [], []).reasons) == 3
    assert len(assess("pairwise", proportion(80, 100), [bias(0.0, pairs=19)], [probe(None)]).reasons) == 2


def test_a_pointwise_judge_has_no_position() -> None:
    assert assess("pointwise", proportion(80, 100), [], [probe(proportion(0, 20))]).fit
