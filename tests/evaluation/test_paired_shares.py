"""Tango's interval against a search for the likeliest share, McNemar's test, swapped policies and drawn worlds."""

import math

import numpy as np
import pytest
from scipy.special import ndtri

from evaluation.intervals import EvidenceError
from evaluation.paired_shares import paired_share_difference, score, tango

Z = float(ndtri(0.975))


def slow_score(gap: float, gained: int, lost: int, n: int) -> float:
    """The score statistic with the lost share found by search on a grid that is refined four times."""
    low, high = max(0.0, -gap), (1 - gap) / 2
    for _ in range(5):
        grid = np.linspace(low, high, 2001)[1:-1]
        likely = gained * np.log(grid + gap) + lost * np.log(grid) + (n - gained - lost) * np.log(1 - 2 * grid - gap)
        best = int(np.argmax(likely))
        low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    q = (low + high) / 2
    return float((gained - lost - n * gap) / math.sqrt(n * (2 * q + gap * (1 - gap))))


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (3, 9, 100), (1, 1, 30), (40, 35, 100), (5, 0, 20)])
def test_at_both_ends_the_slow_score_test_just_rejects(gained: int, lost: int, n: int) -> None:
    found = tango(gained, lost, n)
    assert found.low is not None and found.high is not None
    assert slow_score(found.low, gained, lost, n) == pytest.approx(Z, abs=2e-3)
    assert slow_score(found.high, gained, lost, n) == pytest.approx(-Z, abs=2e-3)


def test_at_zero_the_score_is_that_of_mcnemar() -> None:
    assert score(0.0, 12, 2, 50) ** 2 == pytest.approx((12 - 2) ** 2 / (12 + 2))


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_without_a_changed_item_the_interval_has_the_width_that_the_number_of_items_gives(n: int) -> None:
    found = tango(0, 0, n)
    assert found == pytest.approx((-Z * Z / (n + Z * Z), Z * Z / (n + Z * Z)))


def test_swapped_policies_have_the_mirrored_interval() -> None:
    one, other = tango(9, 3, 80), tango(3, 9, 80)
    assert one.low == pytest.approx(-float(other.high or 0)) and one.high == pytest.approx(-float(other.low or 0))


def test_every_item_gained_or_lost_ends_at_the_edge() -> None:
    assert tango(10, 0, 10).high == 1.0 and tango(0, 10, 10).low == -1.0
    assert 0 < float(tango(10, 0, 10).low or 0) < 1


def test_coverage_in_drawn_worlds() -> None:
    """3 % lost and 1 % gained of 100 items: at least 93 of 100 intervals hold the truth, where few items change."""
    generator = np.random.default_rng(4)
    draws = generator.multinomial(100, [0.01, 0.03, 0.96], size=1500)
    kinds, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    held = [low <= -0.02 <= high for low, high in (tango(int(b), int(c), 100) for b, c in kinds)]
    assert np.average(held, weights=counts) > 0.93


def test_pairs_are_counted_by_place() -> None:
    found = paired_share_difference([True, True, False, True], [True, False, True, False])
    assert (found.value, found.n, found.clusters) == (0.25, 4, 4)
    with pytest.raises(EvidenceError, match="no items"):
        paired_share_difference([], [])
