"""KL estimators against closed forms."""

import math

import numpy as np
import pytest

from evaluation.divergence import divergence, k1, k3
from evaluation.intervals import EvidenceError

GENERATOR_SEED = 12


def test_by_hand() -> None:
    """log r = 0.5 and -1: k1 = -0.5, 1; k3 = e^0.5 - 1.5 = 0.14872, e^-1 = 0.36788; 10 and 30 tokens."""
    found = divergence([-2.0, -3.0], [-1.5, -4.0], [10, 30], ["p", "q"])
    assert found.k1_per_reply.value == pytest.approx(0.25)
    assert found.k3_per_reply.value == pytest.approx((0.148721 + 0.367879) / 2, abs=1e-6)
    assert found.k1_per_token.value == pytest.approx(0.5 / 40)


@pytest.mark.parametrize("shift", [0.1, 0.7])
def test_gaussians(shift: float) -> None:
    """KL(N(0,1) || N(mu,1)) = mu^2 / 2."""
    sample = np.random.default_rng(GENERATOR_SEED).normal(size=200_000)
    new, reference = -(sample**2) / 2, -((sample - shift) ** 2) / 2
    assert k1(new, reference).mean() == pytest.approx(shift**2 / 2, abs=0.006)
    assert k3(new, reference).mean() == pytest.approx(shift**2 / 2, abs=0.004)


def test_categoricals_are_exact_in_expectation() -> None:
    """Weighted by the new policy's probabilities both estimators give sum p log(p / q) exactly."""
    new, reference = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4])
    exact = float((new * np.log(new / reference)).sum())
    assert float(new @ k1(np.log(new), np.log(reference))) == pytest.approx(exact)
    assert float(new @ k3(np.log(new), np.log(reference))) == pytest.approx(exact)


def test_k3_spreads_less_at_small_kl() -> None:
    sample = np.random.default_rng(1).normal(size=5000)
    new, reference = -(sample**2) / 2, -((sample - 0.1) ** 2) / 2
    assert k3(new, reference).std() < k1(new, reference).std() / 5
    assert k3(new, reference).min() >= 0


def test_the_same_policy_is_at_zero() -> None:
    found = divergence([-1.0, -2.0], [-1.0, -2.0], [1, 1], ["p", "q"])
    assert found.k3_per_reply.value == 0.0


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_impossible_replies_are_not_left_out(broken: float) -> None:
    with pytest.raises(EvidenceError, match="1 of 2 replies"):
        divergence([-1.0, -2.0], [broken, -2.0], [1, 1], ["p", "q"])
