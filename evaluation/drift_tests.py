"""Tests behind the drift alarms: exact McNemar, Holm's correction, and a comparison with repeated runs of one policy.

Each comes with what it can be trusted for: the false-alarm rate measured by simulation at the very sizes it was used
at, and the smallest effect that it finds in 80 of 100 cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit
from scipy.stats import binom, binomtest

SIMULATED = 2000
POWER = 0.8
STEP = 0.005


class Flipped(NamedTuple):
    """The same cases judged twice."""

    pairs: int
    lost: int
    """Right before, wrong now."""
    won: int
    """Wrong before, right now."""
    p_value: float


def mcnemar(before: Sequence[bool], now: Sequence[bool]) -> Flipped:
    """Exact two-sided McNemar test (1947): of the cases that changed, as many should be won as lost."""
    changed = [(was, is_now) for was, is_now in zip(before, now, strict=True) if was != is_now]
    lost = sum(was for was, _ in changed)
    p_value = float(binomtest(lost, len(changed)).pvalue) if changed else 1.0
    return Flipped(len(before), lost, len(changed) - lost, p_value)


@lru_cache
def mcnemar_false_alarms(pairs: int, noise: float, alpha: float) -> float:
    """Share of simulated null comparisons that alarm; `noise` is the share of pairs that change by chance."""
    return _mcnemar_power(pairs, noise, 0.0, alpha)


@lru_cache
def mcnemar_detectable(pairs: int, noise: float, alpha: float) -> float | None:
    """The smallest share of right verdicts turned wrong, beside `noise`, that is found in 80 of 100 cases."""
    if _mcnemar_power(pairs, noise, 1.0, alpha) < POWER:
        return None
    low, high = 0, int(1 / STEP)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _mcnemar_power(pairs, noise, middle * STEP, alpha) >= POWER else (middle, high)
    return high * STEP


def _mcnemar_power(pairs: int, noise: float, extra: float, alpha: float) -> float:
    generator = np.random.default_rng(0)
    changed = generator.multinomial(
        pairs, _shares(noise / 2 + extra, noise / 2), size=SIMULATED
    )  # columns: lost, won, unchanged
    lost, won = changed[:, 0], changed[:, 1]
    tail = binom.cdf(np.minimum(lost, won), lost + won, 0.5)
    return float((np.minimum(1.0, 2 * tail) <= alpha).mean())


def _shares(lost: float, won: float) -> tuple[float, float, float]:
    lost, won = min(lost, 1.0), min(won, max(0.0, 1 - lost))
    return lost, won, max(0.0, 1 - lost - won)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of a family's hypotheses Holm's step-down procedure (1979) rejects; the family's error is at most alpha.

    A p-value that is not a number rejects nothing and counts in the family.
    """
    known = [1.0 if math.isnan(p_value) else p_value for p_value in p_values]
    order = sorted(range(len(known)), key=lambda index: known[index])
    rejected = [False] * len(known)
    for rank, index in enumerate(order):
        if known[index] > alpha / (len(known) - rank):
            break
        rejected[index] = True
    return rejected


class Shifted(NamedTuple):
    """A figure beside repeated runs of one and the same policy (A/A)."""

    change: float
    """Mean of the repeats minus the reference."""
    spread: float
    """Standard deviation of the repeats, from seed to seed."""
    t: float
    p_value: float
    detectable: float
    """Change that is found in 80 of 100 cases at the level that was asked."""


def against_repeats(repeats: Sequence[float], reference: float, alpha: float) -> Shifted:
    """Is a reference, itself one run, a draw from the same distribution as m repeats?

    t = (mean − reference) / (s √(1 + 1/m)) with m − 1 degrees of freedom: at m = 5 the two-sided 5 % point is 2.78, and
    1.96 would be wrong in 12 of 100 cases.

    Raises:
        ValueError: fewer than two repeats.
    """
    size = len(repeats)
    if size < 2:
        raise ValueError(f"{size} repeats have no spread; two are needed at least")
    change, spread = float(np.mean(repeats)) - reference, float(np.std(repeats, ddof=1))
    scale, freedom = spread * math.sqrt(1 + 1 / size), size - 1
    if scale == 0:
        equal = math.isclose(change, 0.0, abs_tol=1e-12)
        return Shifted(change, 0.0, 0.0 if equal else math.inf, 1.0 if equal else 0.0, 0.0)
    t = change / scale
    reach = float(stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, POWER))
    return Shifted(change, spread, t, float(2 * stdtr(freedom, -abs(t))), reach * scale)
