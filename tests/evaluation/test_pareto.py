"""The frontier of policies: who is dominated, by whom, and whether beyond the intervals."""

from __future__ import annotations

from evaluation.intervals import Estimate
from evaluation.pareto import Candidate, frontier, rank


def candidate(name: str, helpful: float, polite: float, half: float | None = 0.05) -> Candidate:
    def estimate(value: float) -> Estimate:
        low, high = (None, None) if half is None else (value - half, value + half)
        return Estimate(value=value, low=low, high=high, n=10, clusters=10, confidence=0.95)

    return Candidate(name=name, objectives={"helpful": estimate(helpful), "polite": estimate(polite)}, kl=estimate(1.0))


def test_the_frontier_is_what_nobody_beats_in_everything() -> None:
    found = [candidate("a", 0.9, 0.1), candidate("b", 0.5, 0.5), candidate("c", 0.4, 0.4), candidate("d", 0.1, 0.9)]
    assert frontier(found) == ["a", "b", "d"]
    assert rank(found)[2].dominated_by == ("b",)


def test_near_ties_are_dominated_but_not_clearly() -> None:
    near = rank([candidate("b", 0.5, 0.5), candidate("c", 0.48, 0.45)])[1]
    assert near.dominated_by == ("b",) and not near.clearly
    far = rank([candidate("b", 0.5, 0.5), candidate("c", 0.5, 0.3)])[1]
    assert far.clearly
    unknown = rank([candidate("b", 0.5, 0.5, None), candidate("c", 0.1, 0.1, None)])[1]
    assert unknown.dominated_by == ("b",) and not unknown.clearly


def test_equals_do_not_dominate_each_other() -> None:
    assert frontier([candidate("a", 0.5, 0.5), candidate("b", 0.5, 0.5)]) == ["a", "b"]
