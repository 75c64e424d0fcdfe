"""Over-optimisation: how a gold reward rises and falls while a policy is optimised against a proxy of it.

Gao, Schulman and Hilton (2022, arXiv 2210.10760, section 3) measure the distance from the first policy as d = √KL, in
√nats, and find the gain in gold reward to follow

    best of n   R(d) = d·(α − β·d)         largest at d* = α/(2β), where R* = α²/(4β)
    rl          R(d) = d·(α − β·log d)     largest at d* = exp(α/β − 1), where R* = β·d*

Both are linear in α and β, so they are fitted by least squares. The rl form has an infinite slope at d = 0: it is
fitted on d > `FITTED_FROM` alone, and on points at d = 0, where both forms are the starting value. Intervals are
percentiles of a bootstrap. A peak is only named where the data turn: β above zero and d* within what was seen, both by
their intervals.
Curves of different methods are not to be compared at equal KL, as rl spends far more of it for the same gain (ibid.,
section 4.3). Left out: where points come from (`reward_frontier.py`), best of n (`best_of_n.py`).

Shapes: S points of one run, D bootstrap draws.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from evaluation.intervals import STANDARD, EvidenceError, Floats, Resampling
from ratify.types import Record

Form = Literal["best_of_n", "rl"]
FITTED_FROM = 0.5
"""√nats: smaller distances are not fitted."""
LEAST_POINTS = 5
"""Fewer fitted points say nothing about two or three coefficients."""
_START = 1e-3
"""√nats: a distance that is rounding, not learning."""


class Coefficient(Record):
    """A fitted number with its interval."""

    value: float
    low: float
    high: float


class Peak(Record):
    """Where the gold reward turns, or why that is not known."""

    state: Literal["identified", "beyond_the_data", "no_turn"]
    distance: Coefficient | None = None
    """d*, √nats."""
    gain: Coefficient | None = None
    """R*, in the gold reward's unit, over the starting value."""

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence."""
        if self.state == "no_turn":
            return "no peak is identified: the gold reward does not turn within these data"
        if self.state == "beyond_the_data" or self.distance is None:
            return "no peak is identified: the curve bends, and the data end before it would turn"
        at = self.distance
        return (
            f"stop near a KL of {at.value**2:.2f} nats ({at.low**2:.2f} to {at.high**2:.2f}), where the gold reward "
            "turns; beyond it the proxy rises and the gold reward falls"
        )


class Fitted(Record):
    """A curve through the points of one run."""

    form: Form
    start: Coefficient
    """Gold reward at d = 0."""
    alpha: Coefficient
    beta: Coefficient
    peak: Peak
    points: int
    """Points that were fitted."""
    residual: float
    """Root mean square of what the curve leaves over."""
    confidence: float

    def gold(self, distance: float) -> float:
        """The curve's gold reward at a distance."""
        columns = _columns(np.array([distance]), self.form)
        return float(columns @ np.array([self.start.value, self.alpha.value, self.beta.value]))


class Points(NamedTuple):
    """One run."""

    kl: Floats
    """(S,) nats per completion; estimates below zero count as zero."""
    gold: Floats
    """(S,)"""

    @property
    def distance(self) -> Floats:
        """(S,) √nats."""
        found: Floats = np.sqrt(np.maximum(self.kl, 0.0))
        return np.where(found < _START, 0.0, found)


def fit_curve(points: Points, form: Form, *, start: float | None = None, how: Resampling = STANDARD) -> Fitted:
    """The curve of one run, points resampled.

    Args:
        points: In any order.
        form: Which of the two.
        start: The gold reward before optimisation, where it is known well; None fits it, from points at d = 0 too.
        how: Confidence, draws, seed.

    Raises:
        EvidenceError: fewer than `LEAST_POINTS` finite points with d above `FITTED_FROM`.
    """
    rng = np.random.default_rng(how.seed)
    draws = rng.integers(0, len(points.kl), (how.draws, len(points.kl)))
    return fit_resampled(points, points.kl[draws], points.gold[draws], form, start=start, how=how)


def fit_resampled(
    points: Points,
    kl_draws: Floats,
    gold_draws: Floats,
    form: Form,
    *,
    start: float | None = None,
    how: Resampling = STANDARD,
) -> Fitted:
    """The same with draws that the caller made, of prompts for example.

    Args:
        points: The points themselves.
        kl_draws: (D, S) KL of each draw.
        gold_draws: (D, S) gold reward of each draw.
        form: As in `fit_curve`.
        start: As in `fit_curve`.
        how: The confidence counts.

    Raises:
        EvidenceError: as in `fit_curve`.
    """
    used = _used(points.distance) > 0
    fitted = int((points.distance > FITTED_FROM).sum())
    if fitted < LEAST_POINTS or not np.isfinite([points.kl, points.gold]).all():
        raise EvidenceError(
            f"over-optimisation: {fitted} finite points lie beyond a KL of {FITTED_FROM**2:g} nats and a curve needs "
            f"{LEAST_POINTS}; train further, or measure more often"
        )
    best = _solve(points.distance[None], points.gold[None], form, start)[0]
    drawn = Points(kl_draws, gold_draws)
    draws = _solve(drawn.distance, gold_draws, form, start)
    draws = draws[np.isfinite(draws).all(axis=1)]
    residual = points.gold - _columns(points.distance, form) @ best
    start_, alpha, beta = (_coefficient(best[place], draws[:, place], how.confidence) for place in range(3))
    return Fitted(
        form=form, start=start_, alpha=alpha, beta=beta,
        peak=_peak(best, draws, form, float(points.distance.max()), how.confidence),
        points=int(used.sum()), residual=float(np.sqrt(np.mean(residual[used] ** 2))), confidence=how.confidence,
    )  # fmt: skip


def turning_point(alpha: Floats, beta: Floats, form: Form) -> tuple[Floats, Floats]:
    """d* and R* of curves with β > 0; both are infinite where β is not. (D,), (D,) → (D,), (D,).

    With α ≤ 0 best of n only loses, so that its best distance is 0; the rl form still rises at first.
    """
    turns = beta > 0
    safe = np.where(turns, beta, 1.0)
    with np.errstate(over="ignore"):
        if form == "best_of_n":
            rising = np.maximum(alpha, 0.0)
            distance, gain = rising / (2 * safe), rising**2 / (4 * safe)
        else:
            distance = np.exp(alpha / safe - 1)
            gain = safe * distance
    return np.where(turns, distance, np.inf), np.where(turns, gain, np.inf)


def _peak(best: Floats, draws: Floats, form: Form, farthest: float, confidence: float) -> Peak:
    low = float(np.quantile(draws[:, 2], (1 - confidence) / 2))
    if low <= 0 or best[2] <= 0:
        return Peak(state="no_turn")
    distances, gains = turning_point(draws[:, 1], draws[:, 2], form)
    at, gain = turning_point(best[1:2], best[2:3], form)
    distance = _coefficient(at[0], distances, confidence)
    if not distance.high <= farthest:
        return Peak(state="beyond_the_data")
    return Peak(state="identified", distance=distance, gain=_coefficient(gain[0], gains, confidence))


def _used(distance: Floats) -> Floats:
    """Which points are fitted, 1 or 0."""
    used: Floats = ((distance > FITTED_FROM) | (distance == 0)).astype(np.float64)
    return used


def _columns(distance: Floats, form: Form) -> Floats:
    """(…, 3): what start, α and β are multiplied by."""
    bend = distance if form == "best_of_n" else np.log(np.where(distance > 0, distance, 1.0))
    return np.stack([np.ones_like(distance), distance, -distance * bend], axis=-1)


def _solve(distance: Floats, gold_draws: Floats, form: Form, start: float | None) -> Floats:
    """(D, 3): start, α and β of each draw by least squares; NaN where a draw does not determine them."""
    weight = _used(distance)
    columns = _columns(distance, form)
    if start is not None:
        columns, gold_draws = columns[..., 1:], gold_draws - start
        weight = np.where(distance == 0, 0.0, weight)
    gram = np.einsum("ds,dsi,dsj->dij", weight, columns, columns)
    moment = np.einsum("ds,dsi,ds->di", weight, columns, gold_draws)
    found = np.full(moment.shape, np.nan)
    # A draw with too few different points has a singular matrix.
    regular = np.linalg.cond(gram) < 1e12
    found[regular] = np.linalg.solve(gram[regular], moment[regular][..., None])[..., 0]
    if start is None:
        return found
    return np.concatenate([np.full((len(found), 1), start), found], axis=1)


def _coefficient(value: float, draws: Floats, confidence: float) -> Coefficient:
    tail = (1 - confidence) / 2
    # Without interpolation: some draws have no turning point, and theirs is infinite.
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")
    return Coefficient(value=float(value), low=float(low), high=float(high))
