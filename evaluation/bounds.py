"""One-sided bounds at any level from the intervals of a report, contrasts of two estimates, and alpha over attempts.

A report holds one interval per figure, mostly at 95 %. A bound at another level rescales the half-width on its side by
the ratio of Student's quantiles with clusters - 1 degrees of freedom; that keeps the interval's skewness and is exact
where the estimate is normal. `python -m bench.gate` measures what it comes to. What is left out: bounds that hold at
every moment of a stream.
"""

from __future__ import annotations

import math

from scipy.special import ndtri, stdtrit

from evaluation.intervals import Estimate

POWER = 0.8


def spent(alpha: float, attempt: int) -> float:
    """The level of attempt k = 1, 2, …: alpha * 6 / (pi^2 k^2).

    A weighted Bonferroni bound: the levels of all attempts sum to alpha (Euler's sum of 1/k^2 is pi^2/6), so it holds
    however the attempts depend on each other, as they do when they share their prompts.
    """
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    return alpha * 6 / (math.pi * attempt) ** 2


def usable(found: Estimate | None) -> bool:
    """Is there a finite value with a finite interval on at least two clusters?"""
    if found is None or found.low is None or found.high is None or found.clusters < 2:
        return False
    return all(math.isfinite(number) for number in (found.value, found.low, found.high))


def lower(found: Estimate, alpha: float) -> float:
    """The value's lower bound, which is wrong with probability alpha. The estimate must be `usable`."""
    return found.value - max(0.0, found.value - float(found.low or 0.0)) * _rescaled(found, alpha)


def upper(found: Estimate, alpha: float) -> float:
    """The value's upper bound, which is wrong with probability alpha. The estimate must be `usable`."""
    return found.value + max(0.0, float(found.high or 0.0) - found.value) * _rescaled(found, alpha)


def contrast(new: Estimate, old: Estimate, factor: float = 1.0) -> Estimate:
    """new - factor * old with both half-widths added in quadrature (MOVER: Zou and Donner 2008, eq. 5).

    It takes the two as independent. Two policies that answered the same prompts differ less than that by chance, so the
    interval is wider than it need be and never narrower than it should.
    """
    if new.low is None or new.high is None or old.low is None or old.high is None:
        raise ValueError("a contrast needs two intervals")
    value = new.value - factor * old.value
    low = value - math.hypot(new.value - new.low, factor * (old.high - old.value))
    high = value + math.hypot(new.high - new.value, factor * (old.value - old.low))
    clusters = min(new.clusters, old.clusters)
    confidence = min(new.confidence, old.confidence)
    return Estimate(value=value, low=low, high=high, n=new.n + old.n, clusters=clusters, confidence=confidence)


def detectable(found: Estimate, alpha: float) -> float:
    """The smallest true effect that a one-sided test at `alpha` on as much data finds with a power of 80 %."""
    half = (float(found.high or 0.0) - float(found.low or 0.0)) / 2
    error = half / float(stdtrit(found.clusters - 1, (1 + found.confidence) / 2))
    return error * float(stdtrit(found.clusters - 1, 1 - alpha) + ndtri(POWER))


def _rescaled(found: Estimate, alpha: float) -> float:
    freedom = found.clusters - 1
    return float(stdtrit(freedom, 1 - alpha) / stdtrit(freedom, (1 + found.confidence) / 2))
