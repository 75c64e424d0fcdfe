"""Over-optimisation: coefficients come back within their intervals, a peak is named only where the data turn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.intervals import EvidenceError, Resampling
from evaluation.over_optimisation import Fitted, Form, Points, fit_curve, turning_point

HOW = Resampling(draws=300)
FORMS: tuple[Form, ...] = ("best_of_n", "rl")


def truth(distance: np.ndarray, form: Form, alpha: float, beta: float) -> np.ndarray:
    if form == "best_of_n":
        return distance * (alpha - beta * distance)
    return np.array([d * (alpha - beta * math.log(d)) if d > 0 else 0.0 for d in distance])


def world(form: Form, alpha: float, beta: float, noise: float, seed: int, most: float = 5.0) -> Points:
    rng = np.random.default_rng(seed)
    distance = np.concatenate([np.zeros(4), np.linspace(0.1, most, 40)])
    return Points(distance**2, 1.0 + truth(distance, form, alpha, beta) + rng.normal(0, noise, len(distance)))


@pytest.mark.parametrize(
    ("form", "beta", "distance", "gain"), [("best_of_n", 0.4, 1.5, 0.9), ("rl", 0.6, math.e, 0.6 * math.e)]
)
def test_curves_without_noise_come_back_exactly(form: Form, beta: float, distance: float, gain: float) -> None:
    found = fit_curve(world(form, 1.2, beta, 0.0, 0), form, how=HOW)
    assert (found.start.value, found.alpha.value, found.beta.value) == pytest.approx((1.0, 1.2, beta))
    assert found.residual < 1e-9 and found.points == 4 + 36
    peak = found.peak
    assert peak.state == "identified" and peak.distance and peak.gain
    assert (peak.distance.value, peak.gain.value) == pytest.approx((distance, gain))
    assert found.gold(2.0) == pytest.approx(1.0 + truth(np.array([2.0]), form, 1.2, beta)[0])


def test_a_peak_is_where_the_slope_is_nought() -> None:
    """d/dd of d(α − β log d) is α − β log d − β, of d(α − βd) it is α − 2βd."""
    alpha, beta = np.array([1.0, 0.7]), np.array([0.5, 0.3])
    (rl, gain), (best, best_gain) = turning_point(alpha, beta, "rl"), turning_point(alpha, beta, "best_of_n")
    np.testing.assert_allclose(alpha - beta * np.log(rl) - beta, 0, atol=1e-12)
    np.testing.assert_allclose(gain, rl * (alpha - beta * np.log(rl)))
    np.testing.assert_allclose(alpha - 2 * beta * best, 0, atol=1e-12)
    np.testing.assert_allclose(best_gain, best * (alpha - beta * best))
    assert np.isinf(turning_point(alpha, -beta, "rl")[0]).all()
    np.testing.assert_allclose(turning_point(-alpha, beta, "rl")[0], np.exp(-alpha / beta - 1))
    assert turning_point(-alpha, beta, "best_of_n")[0].tolist() == [0.0, 0.0]


def covers(found: Fitted, alpha: float, beta: float) -> list[bool]:
    pairs = ((found.alpha, alpha), (found.beta, beta))
    return [interval.low <= value <= interval.high for interval, value in pairs]


@pytest.mark.parametrize("form", FORMS)
def test_intervals_hold_the_truth_about_as_often_as_they_say(form: Form) -> None:
    """95 % intervals over 100 noisy runs: a percentile bootstrap of 44 points covers a little less."""
    held = [covers(fit_curve(world(form, 1.2, 0.6, 0.2, seed), form, how=HOW), 1.2, 0.6) for seed in range(100)]
    assert 0.85 <= float(np.mean(held)) <= 1.0


def test_a_known_start_is_not_fitted() -> None:
    found = fit_curve(world("rl", 1.2, 0.6, 0.05, 1), "rl", start=1.0, how=HOW)
    assert found.start.low == found.start.high == 1.0 and all(covers(found, 1.2, 0.6))


def test_no_peak_is_named_where_the_data_do_not_turn() -> None:
    straight = fit_curve(world("rl", 0.5, -0.2, 0.1, 0), "rl", how=HOW)
    assert straight.peak.state == "no_turn" and "does not turn" in straight.peak.advice
    noisy = fit_curve(world("best_of_n", 0.3, 0.0, 0.3, 3), "best_of_n", how=HOW)
    assert noisy.peak.state != "identified"
    short = fit_curve(world("rl", 1.2, 0.4, 0.02, 0, most=3.0), "rl", how=HOW)
    assert short.peak.state == "beyond_the_data" and "the data end" in short.peak.advice
    turned = fit_curve(world("best_of_n", 1.2, 0.4, 0.05, 0), "best_of_n", how=HOW)
    assert turned.peak.state == "identified" and "stop near a KL of 2.2" in turned.peak.advice


def test_too_little_is_not_fitted() -> None:
    few = Points(np.array([0.0, 0.1, 1.0, 2.0, 3.0]), np.zeros(5))
    with pytest.raises(EvidenceError, match="3 finite points lie beyond a KL of 0.25 nats and a curve needs 5"):
        fit_curve(few, "rl")
    with pytest.raises(EvidenceError, match="finite"):
        fit_curve(Points(np.arange(9.0), np.full(9, np.nan)), "rl")
