"""Flips, by hand: what became of labels, whose doing it was, who conflicts, and how well a sample knows the whole."""

from __future__ import annotations

import numpy as np
import pytest

from constitutions.schema import Constitution
from judges import flips
from judges.aggregate import Aggregated, Evidence, aggregate
from ratify.intervals import wilson
from tests.judges.worlds import constitution


def labels(rules: Constitution, odds: list[list[float]]) -> Aggregated:
    """Pointwise labels from each principle's log-odds; NaN is missing."""
    z = np.stack([np.array(odds), np.zeros((len(odds), len(odds[0])))], axis=2)
    return aggregate(
        Evidence(rules.active, np.ones(z.shape[:2], dtype=bool), z, np.zeros(z.shape[:2], dtype=np.int8)),
        rules,
        "pointwise",
    )


def test_what_became_of_each_label() -> None:
    rules = constitution("id: p")
    nan = float("nan")
    before = labels(rules, [[2.0], [2.0], [0.0], [2.0], [1.0], [nan], [2.0], [2.0], [0.0], [nan]])
    after = labels(rules, [[-1.0], [0.0], [1.0], [1.0], [2.0], [1.0], [nan], [2.01], [0.0], [nan]])
    named = [flips.CHANGES[kind] for kind in flips.changes(before, after)]
    assert named == ["flipped", "tied", "decided", "weakened", "strengthened", "new", "lost", "same", "same", "same"]
    assert flips.outcome_changed(flips.changes(before, after)).sum() == 5


def test_a_change_is_split_over_principles_exactly() -> None:
    """Weights 1:1: (4 − 2)/2 = 1; weights 1:3: (4 − 6)/4 = −½. p moved by 1 − 2 = −1, q by −3/2 + 1 = −½."""
    old, new = constitution("id: p", "id: q"), constitution("id: p", "id: r, weight: 3")
    before, after = labels(old, [[4.0, -2.0]]), labels(new, [[4.0, -2.0]])
    split = flips.attribute((before, old), (after, new), {"r": "q"})
    assert split.names == ("p", "r") and split.shift.tolist() == [[-1.0, -0.5]]
    assert split.shift.sum() == after.margin[0] - before.margin[0] and split.names[split.mover[0]] == "p"


def test_a_removed_principle_takes_its_share_along() -> None:
    old, new = constitution("id: p", "id: q"), constitution("id: p")
    split = flips.attribute((labels(old, [[4.0, -2.0]]), old), (labels(new, [[4.0]]), new), {})
    assert split.names == ("p", "q") and split.shift.tolist() == [[2.0, 1.0]]


def test_conflict_and_redundancy() -> None:
    rules = constitution("id: p", "id: q", "id: r")
    found = flips.relations(labels(rules, [[2.0, -2.0, 3.0], [2.0, 2.0, 1.0], [-2.0, 0.1, -1.0], [2.0, -2.0, 4.0]]))
    assert found.both[0, 1] == 3 and found.conflict[0, 1] == pytest.approx(2 / 3)
    assert found.kappa[0, 2] == 1.0 and found.kappa[0, 1] == pytest.approx(1 - 2 * 3 / 4)


def test_gold_before_and_after_with_mcnemar() -> None:
    """5 gained, 1 lost: two-sided binomial p = 2·(1 + 6)/64 = 0.21875."""
    gold = np.array([1] * 8 + [0], dtype=np.int8)
    before = np.array([-1] * 5 + [1] * 3 + [1], dtype=np.int8)
    after = np.array([1] * 5 + [-1] + [1] * 2 + [-1], dtype=np.int8)
    found = flips.gold_agreement(before, after, gold)
    assert found is not None and (found.pairs, found.gained, found.lost) == (8, 5, 1)
    assert found.before == 3 / 8 and found.after == 7 / 8 and found.p == pytest.approx(14 / 64)
    assert flips.gold_agreement(before, after, gold * 0) is None


def test_a_sample_keeps_the_strata_in_proportion() -> None:
    strata = ["a"] * 700 + ["b"] * 200 + ["c"] * 100
    rows = flips.stratified_sample(strata, 50, seed=1)
    assert [sum(strata[row] == name for row in rows) for name in "abc"] == [35, 10, 5]
    assert np.array_equal(rows, flips.stratified_sample(strata, 50, seed=1)) and len(set(rows.tolist())) == 50
    assert flips.stratified_sample(strata, 2000, seed=1).tolist() == list(range(1000))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_a_sampled_flip_rate_covers_the_truth(share: float) -> None:
    """100 seeded trials on 2,000 pairs whose flips come in clusters of six (a prompt's pairs) and depend on the tag."""
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(100):
        strata = np.repeat(generator.choice(["x", "y", "z"], 334), 6)[:2000]
        rate = np.repeat(generator.beta(1, 1 / share - 1, 334), 6)[:2000]
        flipped = generator.random(2000) < rate * np.where(strata == "x", 1.5, 0.75)
        rows = flips.stratified_sample(strata.tolist(), 100, seed)
        low, high = wilson(int(flipped[rows].sum()), len(rows))
        assert low is not None and high is not None
        covered += low <= flipped.mean() <= high
    assert covered >= 90
