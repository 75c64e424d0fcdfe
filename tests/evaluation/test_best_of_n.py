"""Best of n: its KL exactly, its gain without bias, and Gaussian rewards whose answer is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from evaluation.best_of_n import best_of_n_frontier, best_of_n_probabilities, chances, exact_kl, kl_bound
from evaluation.intervals import EvidenceError


def enumerated(probabilities: list[float], rewards: list[float], n: int) -> np.ndarray:
    """Every sequence of n draws; ties go to the first drawn, which shares them by probability."""
    chosen = np.zeros(len(rewards))
    for draws in itertools.product(range(len(rewards)), repeat=n):
        best = max(draws, key=lambda place: rewards[place])
        chosen[best] += math.prod(probabilities[place] for place in draws)
    return chosen


@pytest.mark.parametrize("n", [1, 2, 4])
def test_probabilities_and_kl_are_those_of_enumeration(n: int) -> None:
    probabilities, rewards = [0.4, 0.1, 0.3, 0.2], [1.0, 2.0, 2.0, 0.0]
    expected = enumerated(probabilities, rewards, n)
    p, r = np.array(probabilities), np.array(rewards)
    np.testing.assert_allclose(best_of_n_probabilities(p, r, n), expected)
    assert exact_kl(p, r, n) == pytest.approx(float((expected * np.log(expected / p)).sum()))


def test_the_formula_is_a_bound_that_repeats_keep_away_from() -> None:
    """Four equally likely replies cannot be further than log 4 away; a thousand come near the bound."""
    assert kl_bound(64) == pytest.approx(3.1745, abs=1e-4)
    few, many = (exact_kl(np.full(v, 1 / v), np.arange(v) * 1.0, 64) for v in (4, 1000))
    assert few == pytest.approx(math.log(4), abs=1e-6) or few < math.log(4)
    assert few < 2.0 < many <= kl_bound(64) and many == pytest.approx(kl_bound(64), abs=0.01)


def test_chances_are_those_of_drawing_without_replacement() -> None:
    rewards = np.array([0.3, 0.9, 0.1, 0.9, 0.5])
    counted = np.zeros(5)
    for subset in itertools.combinations(range(5), 3):
        best = max(rewards[list(subset)])
        tied = [place for place in subset if rewards[place] == best]
        counted[tied] += 1 / len(tied)
    np.testing.assert_allclose(chances(rewards, 3), counted / math.comb(5, 3))
    with pytest.raises(EvidenceError, match="best of 6 cannot be estimated from 5 replies"):
        chances(rewards, 6)


def test_regressional_goodhart_gold_gains_rho_times_what_the_proxy_gains() -> None:
    """Gaussian proxy and gold with correlation ρ: E[gold | best of n] = ρ·E[max of n normals]; there is no turn."""
    rho, rng = 0.6, np.random.default_rng(0)
    proxy = rng.normal(size=(400, 64))
    gold = rho * proxy + math.sqrt(1 - rho**2) * rng.normal(size=proxy.shape)
    found = best_of_n_frontier(proxy, gold, [str(p) for p in range(400)], [1, 2, 16])
    for one, expected in zip(found, (0.0, 1 / math.sqrt(math.pi), 1.7660), strict=True):
        assert one.proxy.value == pytest.approx(expected, abs=0.03)
        assert one.gold.value == pytest.approx(rho * expected, abs=0.03)
    ratio = found[2].proxy.value / math.sqrt(2 * found[2].kl_bound)
    assert ratio == pytest.approx(0.926, abs=0.02)


def test_a_reward_that_is_no_number_is_refused() -> None:
    with pytest.raises(EvidenceError, match="not finite"):
        best_of_n_frontier(np.array([[math.nan, 1.0]]), np.ones((1, 2)), ["p"], [1])
