"""Watching a stream for a fall of its mean without a fixed end: e-CUSUM for monitoring, an e-process for acceptance.

Values x lie in [0, 1], such as "the judge agreed with gold". While their mean given the past is at least m, each bet
1 + λ(m − x) has an expected value of at most one (Waudby-Smith and Ramdas 2024), and so

    e-process   E_t = Π (1 + λ(m − x_t))               P(E ever reaches 1/α) ≤ α             Ville's inequality
    e-CUSUM     M_t = max(M_{t−1}, 1)(1 + λ(m − x_t))  mean time to a false alarm at c ≥ c   Shin, Ramdas, Rinaldo 2023

Both are averaged over five bets λ, since the best one depends on how far the mean falls, and a mean of e-detectors is
one. An e-process forgets nothing: after a long good time it needs as long to see a fall, so it answers "is this at
least m?" from a fixed start, and e-CUSUM watches. What it assumes: fresh values. One number that is repeated because a
deterministic judge was asked the same again is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BETS = (0.25, 0.5, 1.0, 2.0, 3.0)
SAFEST = 0.9
"""No bet may lose more than this share of what it holds at one value."""
ARL = 2000
"""Mean values between false alarms, at least."""
HORIZON = 600
"""Values within which a fall should be seen."""
SIMULATED = 400
DROPS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20, 0.30, 0.40)
POWER = 0.8


class Watched(NamedTuple):
    """What a stream has come to."""

    evidence: float
    """The e-CUSUM or the e-process now."""
    highest: float
    alarm_at: int | None
    """Number of the value, from 1, at which it first reached its threshold."""


def bets(mean: ArrayLike) -> Floats:
    """The bets against each mean, shape (..., 5), small enough that no value can ruin one: λ(1 − m) ≤ 0.9."""
    room = np.maximum(1.0 - np.asarray(mean, dtype=np.float64), 1e-9)
    return np.asarray(np.minimum(np.array(BETS), SAFEST / room[..., None]))


def e_cusum_path(values: ArrayLike, mean: ArrayLike) -> Floats:
    """M_t after each value; `values` of shape (..., T), the last axis is time, and one mean or one for each stream."""
    return _path(values, mean, floor=1.0)


def e_process_path(values: ArrayLike, mean: ArrayLike) -> Floats:
    """E_t after each value."""
    return _path(values, mean, floor=0.0)


def watch(values: ArrayLike, mean: float, threshold: float = ARL, *, forgetful: bool = True) -> Watched:
    """Follow one stream: the e-CUSUM, or with `forgetful=False` the e-process."""
    path = e_cusum_path(values, mean) if forgetful else e_process_path(values, mean)
    if not len(path):
        return Watched(1.0, 1.0, None)
    reached = np.flatnonzero(path >= threshold)
    return Watched(float(path[-1]), float(path.max()), int(reached[0]) + 1 if len(reached) else None)


@lru_cache
def false_alarms(mean: float, threshold: float, length: int, *, forgetful: bool = True) -> float:
    """Share of simulated steady streams of yes and no that alarm within `length` values."""
    return _alarmed(mean, mean, threshold, length, forgetful)


@lru_cache
def detectable_drop(mean: float, threshold: float, length: int = HORIZON, *, forgetful: bool = True) -> float | None:
    """The smallest fall on a grid that at least 80 % of simulated streams show within `length` values; None: none."""
    for drop in DROPS:
        if drop < mean and _alarmed(mean - drop, mean, threshold, length, forgetful) >= POWER:
            return drop
    return None


def _alarmed(truth: float, mean: float, threshold: float, length: int, forgetful: bool) -> float:
    values = np.random.default_rng(0).random((SIMULATED, length)) < truth
    path: Callable[[ArrayLike, ArrayLike], Floats] = e_cusum_path if forgetful else e_process_path
    return float((path(values, mean).max(axis=1) >= threshold).mean())


def _path(values: ArrayLike, mean: ArrayLike, floor: float) -> Floats:
    stream = np.asarray(values, dtype=np.float64)
    if stream.size and not (stream.min() >= 0 and stream.max() <= 1):
        raise ValueError("values of a watched stream lie between 0 and 1")
    steps, least, found = bets(mean), np.asarray(mean, dtype=np.float64), np.empty(stream.shape)
    held = np.ones((*stream.shape[:-1], len(BETS)))
    for time in range(stream.shape[-1]):
        held = np.maximum(held, floor) * (1 + steps * (least - stream[..., time])[..., None])
        found[..., time] = held.mean(axis=-1)
    return found
