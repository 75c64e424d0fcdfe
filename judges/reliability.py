"""Do probabilities mean what they say? Negative log-likelihood, Brier score, expected calibration error, and the
points of a reliability diagram.

    NLL     −mean ln P(what gold says), in nats; 0.693 is a coin
    Brier   mean (p − y)²                                                      Brier 1950
    ECE     Σ_b (n_b / n) · |mean p − mean y| over bins of equal mass          Naeini et al. 2015, with equal mass as in
                                                                               Nguyen and O'Connor 2015
Probabilities that are equal stay in one bin, so a judge with few distinct values has few bins. ECE is never below what
chance makes of a perfect judge (about Σ_b √(n_b p q) / n): compare it with itself, on equal counts.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from ratify.intervals import Floats
from ratify.types import Record

BINS = 15
FLOOR = 1e-12
"""A probability of 0 for what happened would cost infinitely much; it costs −ln of this."""


class ReliabilityBin(Record):
    """One point of a reliability diagram."""

    count: int
    predicted: float
    """Mean probability."""
    observed: float
    """Share in which it came true."""


class Reliability(Record):
    """How far probabilities can be taken at their word."""

    count: int
    nll: float
    brier: float
    ece: float
    bins: tuple[ReliabilityBin, ...]


def measure_reliability(probabilities: ArrayLike, truth: ArrayLike, bins: int = BINS) -> Reliability:
    """Measure probabilities of "yes" against what was true (1 or 0), one value each."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise ValueError(f"probabilities of shape {p.shape} and truth of shape {y.shape}: need two equal lists")
    points = reliability_bins(p, y, bins)
    gaps = [point.count * abs(point.predicted - point.observed) for point in points]
    return Reliability(
        count=len(p), nll=nll(p, y), brier=float(np.mean((p - y) ** 2)), ece=sum(gaps) / len(p), bins=points
    )


def nll(probabilities: Floats, truth: Floats) -> float:
    """Mean −ln of the probability of what was true."""
    return float(-np.mean(np.log(np.maximum(np.where(truth > 0.5, probabilities, 1 - probabilities), FLOOR))))


def reliability_bins(probabilities: Floats, truth: Floats, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Bins of about equal mass in order of probability; equal probabilities are never parted."""
    order = np.argsort(probabilities, kind="stable")
    p, y = probabilities[order], truth[order]
    cuts = {int(np.searchsorted(p, p[cut], side="left")) for cut in np.arange(1, bins) * len(p) // bins}
    edges = sorted(cuts | {0, len(p)})
    return tuple(
        ReliabilityBin(count=end - start, predicted=float(p[start:end].mean()), observed=float(y[start:end].mean()))
        for start, end in pairwise(edges)
    )


def probabilities_of(log_odds: ArrayLike) -> Floats:
    """σ(z)."""
    return np.asarray(expit(np.asarray(log_odds, dtype=np.float64)))
