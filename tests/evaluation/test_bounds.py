"""Bounds at other levels than the report's, and what attempts may spend."""

import math

import numpy as np
import pytest
from scipy import stats

from evaluation.bounds import contrast, detectable, lower, spent, upper, usable
from evaluation.intervals import Estimate, mean


def estimate(value, low, high, clusters=400, confidence=0.95):
    return Estimate(value=value, low=low, high=high, n=clusters, clusters=clusters, confidence=confidence)


def test_all_attempts_together_spend_alpha() -> None:
    levels = [spent(0.05, attempt) for attempt in range(1, 200_000)]
    assert levels[0] == pytest.approx(0.05 * 6 / math.pi**2)
    assert 0.0499 < sum(levels) < 0.05 and levels == sorted(levels, reverse=True)
    with pytest.raises(ValueError, match="count from 1"):
        spent(0.05, 0)


def test_a_bound_is_the_one_sided_bound_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, 50)
    low, high = stats.t.interval(0.95, 49, values.mean(), stats.sem(values))
    found = estimate(float(values.mean()), low, high, clusters=50)
    for alpha in (0.05, 0.01, 0.001):
        reach = stats.t.ppf(1 - alpha, 49) * stats.sem(values)
        assert lower(found, alpha) == pytest.approx(values.mean() - reach)
        assert upper(found, alpha) == pytest.approx(values.mean() + reach)


def test_a_skewed_interval_stays_skewed() -> None:
    found = estimate(0.02, 0.01, 0.06)
    assert 0.02 - lower(found, 0.01) < (upper(found, 0.01) - 0.02) / 3


def test_a_contrast_of_independent_means_is_welch() -> None:
    first, second = estimate(0.5, 0.4, 0.6), estimate(0.3, 0.2, 0.4)
    found = contrast(first, second)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.2 - 0.1 * 2**0.5, 0.2 + 0.1 * 2**0.5))
    assert contrast(first, second, 2.0).value == pytest.approx(-0.1)


def test_what_is_detectable_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(5)
    effect = detectable(mean(list(generator.random(200) < 0.5), range(200)), 0.05)
    assert effect == pytest.approx(0.5 * (1.653 + 0.8416) / math.sqrt(200), rel=0.05)
    shares = (generator.random((400, 200)) < 0.5 + effect).mean(axis=1)
    found = np.mean(shares - 1.653 * np.sqrt(shares * (1 - shares) / 199) > 0.5)
    assert 0.72 < found < 0.88


@pytest.mark.parametrize(
    "found",
    [
        None,
        Estimate(value=0.5, n=1, clusters=1, confidence=0.95),
        estimate(0.5, float("nan"), 0.6),
        estimate(0.5, 0.4, float("inf")),
        estimate(0.5, 0.4, 0.6, clusters=1),
    ],
)
def test_a_figure_without_a_finite_interval_is_not_usable(found) -> None:
    assert not usable(found)
