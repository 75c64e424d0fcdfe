"""Estimates with intervals: bootstrap over prompts, Wilson for plain counts, Student's t for a few independent windows.

Replies to one prompt resemble each other, so the unit that is resampled is the prompt with everything measured on it
(pairs cluster bootstrap: Cameron, Gelbach and Miller 2008); two policies on the same prompts are resampled together,
which is what makes a difference paired.

The interval is BCa (Efron and Tibshirani 1993, eq. 14.9-14.15) at levels widened for few clusters (Hesterberg 2015,
section 3.2). Shares near 0 and KL figures are skewed, and there the plain percentile interval misses on one side:
measured on 100 prompts with two log-normal values each, it missed below in 1.1 % and above in 6.0 % of 1,000 trials,
this one in 2.9 % and 4.2 %; on 15 such prompts coverage is .91 against .88. The acceleration costs nothing because
every statistic here is a function of column sums over prompts.

What is left out: intervals that hold at all looks of a sequence, and corrections for many comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.special import ndtr, ndtri, stdtrit

from ratify.errors import InputError
from ratify.types import Record

Floats = NDArray[np.float64]
Clusters = Sequence[Hashable] | NDArray[np.int64]
"""For each observation, the unit that it belongs to."""
Statistic = Callable[[Floats], Floats]
"""From column sums of shape (..., columns) to values of shape (...)."""

HELD_LIMIT = 4_000_000
"""Multiplicities (draws times clusters) that are kept from one figure to the next: 4 MB, as no count is above 255."""
DRAWN_AT_ONCE = 125_000
"""Multiplicities that are drawn together, in a megabyte."""


class EvidenceError(InputError):
    """A figure that the data cannot support; the message says which and why. Never read it as a pass."""


class Estimate(Record):
    """A figure and how sure we are of it."""

    value: float = Field(allow_inf_nan=False)
    low: float | None = None
    """Lower end of the interval; None when there are too few clusters for one."""
    high: float | None = None
    n: int
    """Observations: replies, pairs or verdicts."""
    clusters: int
    """Independent units among them, as a rule prompts."""
    confidence: float


class Resampling(NamedTuple):
    """How intervals are made."""

    confidence: float = 0.95
    draws: int = 2000
    """Bootstrap resamples of the prompts."""
    seed: int = 0


class Interval(NamedTuple):
    """Both ends, or None and None when there is no interval."""

    low: float | None
    high: float | None


ROWS_AT_ONCE = 64
"""Resamples whose quantile is taken at once: each holds one number per observation."""
NO_INTERVAL = Interval(None, None)
STANDARD = Resampling()


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a binomial share (Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4)."""
    if n < 1:
        return NO_INTERVAL
    z = float(ndtri((1 + confidence) / 2))
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A share of `n` independent observations with Wilson's interval."""
    if n < 1:
        raise EvidenceError("a share of no observations")
    low, high = wilson(successes, n, confidence)
    return Estimate(value=successes / n, low=low, high=high, n=n, clusters=n, confidence=confidence)


def student(values: Sequence[float], confidence: float = 0.95, n: int | None = None) -> Estimate:
    """The mean of a few independent values with Student's t interval; `n` is what they were computed from."""
    if not values:
        raise EvidenceError("a mean of no values")
    count, centre = len(values), float(np.mean(values))
    low, high = NO_INTERVAL
    if count > 1:
        half = float(stdtrit(count - 1, (1 + confidence) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(count)
        low, high = centre - half, centre + half
    return Estimate(value=centre, low=low, high=high, n=n or count, clusters=count, confidence=confidence)


def cluster_sums(columns: Sequence[ArrayLike], clusters: Clusters) -> Floats:
    """Sum each column within each cluster: shape (clusters, columns), clusters in order of first appearance."""
    index, size = _numbered(clusters)
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(len(array) != len(index) for array in arrays):
        raise ValueError(f"columns of {[len(array) for array in arrays]} values for {len(index)} cluster names")
    return np.stack([np.bincount(index, array, minlength=size) for array in arrays], axis=1)


def _numbered(clusters: Clusters) -> tuple[NDArray[np.int64], int]:
    """Each observation's cluster by its number in order of first appearance, and how many there are; numbers in an
    array never become Python objects."""
    if isinstance(clusters, np.ndarray):
        _, first, index = np.unique(clusters, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[index], len(first)
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64), len(numbers)


def resampled_sums(sums: Floats, how: Resampling) -> Floats:
    """Column sums of `how.draws` resamples of the clusters with replacement: shape (draws, columns)."""
    return np.concatenate([times @ sums for times in multiplicities(len(sums), how)])


def multiplicities(size: int, how: Resampling) -> Iterable[Floats]:
    """How often each of `size` clusters is in each resample, in parts of shape (some draws, size)."""
    if size * how.draws <= HELD_LIMIT:
        return (times.astype(np.float64) for times in _held_multiplicities(size, how.draws, how.seed))
    return _drawn_multiplicities(size, how.draws, np.random.default_rng(how.seed))


@lru_cache(maxsize=2)
def _held_multiplicities(size: int, draws: int, seed: int) -> list[NDArray[np.unsignedinteger]]:
    """Kept, because all figures of one report resample the same prompts; in the smallest numbers that hold them."""
    parts = _drawn_multiplicities(size, draws, np.random.default_rng(seed))
    return [times.astype(np.min_scalar_type(int(times.max()))) for times in parts]


def _drawn_multiplicities(size: int, draws: int, generator: np.random.Generator) -> Iterator[Floats]:
    step = max(1, DRAWN_AT_ONCE // size)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        rows = generator.integers(0, size, size=(count, size)) + size * np.arange(count)[:, None]
        yield np.bincount(rows.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)


def bca(sums: Floats, statistic: Statistic, how: Resampling) -> Interval:
    """BCa bootstrap interval of a statistic of column sums; none for fewer than two clusters."""
    if len(sums) < 2:
        return NO_INTERVAL
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(axis=0)))
        draws = statistic(resampled_sums(sums, how))
        left_out = statistic(sums.sum(axis=0) - sums)
    draws, left_out = draws[np.isfinite(draws)], left_out[np.isfinite(left_out)]
    # Where the statistic exists only with one certain cluster in it, nothing is known of how clusters differ.
    if len(draws) < how.draws / 2 or not len(left_out):
        return NO_INTERVAL
    shift, acceleration = _bias(draws, value), _acceleration(left_out)
    size = len(sums)
    reach = math.sqrt(size / (size - 1)) * float(stdtrit(size - 1, (1 + how.confidence) / 2))
    z = shift + np.array([-reach, reach])
    levels = ndtr(shift + z / (1 - acceleration * z))
    low, high = np.quantile(draws, levels)
    return Interval(float(low), float(high))


def estimate(columns: Sequence[ArrayLike], clusters: Clusters, statistic: Statistic, how: Resampling) -> Estimate:
    """A statistic of column sums with its clustered interval.

    Raises:
        EvidenceError: when there is no observation or the statistic is not defined on them.
    """
    if not len(clusters):
        raise EvidenceError("no observations")
    sums = cluster_sums(columns, clusters)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(sums.sum(axis=0)))
    if not math.isfinite(value):
        raise EvidenceError(f"the figure is not defined on these {len(clusters)} observations")
    low, high = bca(sums, statistic, how)
    return Estimate(value=value, low=low, high=high, n=len(clusters), clusters=len(sums), confidence=how.confidence)


def ratio(numerators: ArrayLike, denominators: ArrayLike, clusters: Clusters, how: Resampling = STANDARD) -> Estimate:
    """Sum of numerators over sum of denominators, such as nats per token."""
    return estimate([numerators, denominators], clusters, _quotient, how)


def mean(
    values: Sequence[float] | Floats, clusters: Clusters, how: Resampling = STANDARD, share: bool = False
) -> Estimate:
    """The mean over all observations, whatever the cluster sizes.

    With `share` the values lie in [0, 1]; where all clusters agree, resampling shows no spread at all, and Wilson's
    interval on the number of clusters is given instead of a width of zero.
    """
    found = ratio(values, np.ones(len(values)), clusters, how)
    if share and found.low is not None and found.low == found.high:
        low, high = wilson(found.value * found.clusters, found.clusters, how.confidence)
        return found.model_copy(update={"low": low, "high": high})
    return found


def difference(
    new: Sequence[float] | Floats,
    new_clusters: Sequence[Hashable],
    old: Sequence[float] | Floats,
    old_clusters: Sequence[Hashable],
    how: Resampling = STANDARD,
    *,
    share: bool = False,
) -> Estimate:
    """Mean of `new` minus mean of `old`, paired: a prompt is resampled with its replies from both policies.

    With `share`, where resampling shows no spread, the interval is Newcombe's (1998, method 10) on the clusters.
    """
    if not len(new) or not len(old):
        raise EvidenceError("a difference needs observations on both sides")
    blank_new, blank_old = np.zeros(len(new)), np.zeros(len(old))
    columns = [
        np.concatenate([np.asarray(new, dtype=np.float64), blank_old]),
        np.concatenate([blank_new + 1, blank_old]),
        np.concatenate([blank_new, np.asarray(old, dtype=np.float64)]),
        np.concatenate([blank_new, blank_old + 1]),
    ]
    found = estimate(columns, [*new_clusters, *old_clusters], _quotient_difference, how)
    if share and found.low is not None and found.low == found.high:
        low, high = _newcombe(float(np.mean(new)), float(np.mean(old)), found.clusters, how.confidence)
        return found.model_copy(update={"low": low, "high": high})
    return found


def quantile(
    values: Sequence[float] | Floats, clusters: Sequence[Hashable], level: float, how: Resampling = STANDARD
) -> Estimate:
    """A quantile (the smallest value with at least `level` of the observations at or below it), clustered.

    The percentile interval, because the acceleration of BCa is not defined for quantiles.
    """
    if not len(values):
        raise EvidenceError("a quantile of no observations")
    names = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable")
    ranked = np.asarray(values, dtype=np.float64)[order]
    owner = np.array([names[cluster] for cluster in clusters], dtype=np.int64)[order]
    value = float(ranked[math.ceil(level * len(ranked) - 1e-9) - 1])
    low, high = _quantile_interval(ranked, owner, len(names), level, how) if len(names) > 1 else NO_INTERVAL
    return Estimate(value=value, low=low, high=high, n=len(ranked), clusters=len(names), confidence=how.confidence)


def _quantile_interval(ranked: Floats, owner: NDArray[np.int64], size: int, level: float, how: Resampling) -> Interval:
    found = []
    for times in multiplicities(size, how):
        for start in range(0, len(times), ROWS_AT_ONCE):
            running = times[start : start + ROWS_AT_ONCE, owner].cumsum(axis=1)
            found.append(ranked[np.argmax(running >= level * running[:, -1:] - 1e-9, axis=1)])
    low, high = np.quantile(np.concatenate(found), [(1 - how.confidence) / 2, (1 + how.confidence) / 2])
    return Interval(float(low), float(high))


def _quotient(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _quotient_difference(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3])


def _bias(draws: Floats, value: float) -> float:
    """z0 of BCa (eq. 14.14); draws equal to the value count half, as shares have many of them."""
    below = float(np.mean(draws < value) + np.mean(draws == value) / 2)
    edge = 1 / (2 * len(draws))
    return float(ndtri(min(max(below, edge), 1 - edge)))


def _acceleration(left_out: Floats) -> float:
    """a of BCa (eq. 14.15) from the statistic with one cluster left out at a time."""
    gaps = left_out.mean() - left_out
    scale = float((gaps**2).sum() ** 1.5)
    return float((gaps**3).sum()) / (6 * scale) if scale > 0 else 0.0


def _newcombe(new: float, old: float, size: int, confidence: float) -> Interval:
    first, second = wilson(new * size, size, confidence), wilson(old * size, size, confidence)
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return NO_INTERVAL
    gap = new - old
    return Interval(
        gap - math.hypot(new - first.low, second.high - old), gap + math.hypot(first.high - new, old - second.low)
    )
