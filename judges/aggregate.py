"""What the verdicts about pairs add up to: a pure function of log-odds and constitution, over all pairs at once.

For a pair (a, b) and a principle i, z is a verdict's log-odds, first clamped to `aggregate.clamp` (two probabilities):

    pointwise   l_i = z_i(a) − z_i(b)               how much likelier a is to meet the principle
    pairwise    l_i = (z_i(a, b) − z_i(b, a)) / 2   mean of both orders, which cancels a constant position bias

`clamp` keeps one certain verdict from outvoting all others, and makes clear verdicts count about alike, as votes do.
Over the weighed principles that apply (weight w_i > 0, severity not `info`), the margin M in favour of a is

    logit_mean         M = Σ w_i l_i / Σ w_i             a logarithmic opinion pool (Genest & Zidek 1986): as sure as a
                                                         typical principle, however many there are
    logit_sum          M = Σ w_i l_i                     Bayes' rule for independent evidence: surer with each principle
    probability_mean   M = logit(Σ w_i σ(l_i) / Σ w_i)   a linear opinion pool (Stone 1961): a vote of probabilities

`logit_mean` is the default because the principles of a constitution overlap: a sum would count what they share several
times, and each new principle would sharpen every label. P(a is better) = σ(M). A label is a tie when |M| <
`min_margin` or |P − ½| < `tie_band`; it *failed*, with no number at all, when a weighed principle's verdict is missing
or when none applies.

A `hard` principle vetoes (unless `hard: weigh`) when |l_i| ≥ `veto_margin` and, pointwise, the losing reply rather
breaks it (z < 0) while the other rather meets it (z ≥ 0). Then the margin is taken over the vetoing principles of the
highest tier alone, by the same method; where these disagree, their weights decide.

Evidence is a pairs × principles × 2 array of log-odds as the judge gave them; clamp, weights, tiers, vetoes,
`min_margin` and `tie_band` are applied here, so that an edit of any of them needs no verdict. Sums go through
`math.fsum` and logistic functions through `math.exp`, row by row: numpy's own differ in the last bit, and labels must
not; `tests/judges/slow_labels.py` computes the same pair by pair. Left out: reading verdicts (`columns.py`), records
(`labels.py`) and files (`label_table.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from constitutions.schema import Constitution, Principle
from ratify.types import Protocol

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Outcomes = NDArray[np.int8]
A, TIE, B, FAILED = 1, 0, -1, 2
"""Outcomes as numbers."""
_FARTHEST = 1e-12
"""Probabilities nearer to 0 or 1 than this are taken as this, so that a logit stays finite."""
_LAST_BITS = 1e-7
"""Far more than numpy's sums and `math.fsum` can differ."""
OUTCOME_NAMES: dict[int, Literal["a", "b", "tie", "failed"]] = {A: "a", TIE: "tie", B: "b", FAILED: "failed"}


class Evidence(NamedTuple):
    """What is known about N pairs from P principles."""

    principles: tuple[Principle, ...]
    asked: Bools
    """(N, P): the principle speaks about this pair."""
    z: Floats
    """(N, P, 2): log-odds about a and b (pointwise), or with a and with b shown first (pairwise); NaN is missing."""
    decided: Outcomes
    """(N, P): 1 or −1 where checks decided, so that nobody was asked; `z` holds what that is worth."""

    def rows(self, which: Bools | NDArray[np.intp]) -> Evidence:
        """The same about some of the pairs."""
        return Evidence(self.principles, self.asked[which], self.z[which], self.decided[which])

    def of(self, kept: Iterable[bool]) -> Evidence:
        """The same with only some principles asked."""
        return self._replace(asked=self.asked & np.array(list(kept), dtype=np.bool_))

    @property
    def by_checks(self) -> Bools:
        """(N, P): the views that come from checks."""
        found: Bools = self.asked & (self.decided != 0)
        return found


class Aggregated(NamedTuple):
    """The labels of N pairs."""

    principles: tuple[Principle, ...]
    log_odds: Floats
    """(N, P): each principle's view in favour of a; NaN where it has none."""
    counted: Bools
    """(N, P): the views that the margin is made of."""
    vetoing: Bools
    """(N, P): the views that veto."""
    margin: Floats
    """(N,): NaN when failed."""
    probability: Floats
    outcome: Outcomes

    @property
    def vetoed(self) -> Bools:
        """(N,): a hard principle decided."""
        vetoed: Bools = np.asarray(self.vetoing.any(axis=1))
        return vetoed


def aggregate(evidence: Evidence, constitution: Constitution, protocol: Protocol) -> Aggregated:
    """Every pair's label under a constitution; the principles' weights and tiers are those of `evidence`."""
    z = clamped(evidence.z, constitution)
    seen = evidence.asked & ~np.isnan(z).any(axis=2)
    log_odds = np.where(seen, _leads(z, protocol), np.nan)
    decides = np.array([principle.decides for principle in evidence.principles], dtype=np.bool_)
    weighed = seen & decides
    lost = evidence.asked & ~seen & decides
    failed: Bools = np.asarray(lost.any(axis=1) | ~weighed.any(axis=1))
    vetoing = weighed & _vetoes(evidence.principles, log_odds, z, constitution, protocol) & ~failed[:, None]
    counted = np.where(failed[:, None], False, _highest(vetoing, weighed, evidence.principles, constitution))
    margin = np.where(failed, np.nan, pool(log_odds, counted, evidence.principles, constitution))
    probability = np.array([sigmoid(value) for value in margin.tolist()], dtype=np.float64)
    outcome = _decide(margin, probability, constitution)
    return Aggregated(evidence.principles, log_odds, counted, vetoing, margin, probability, outcome)


def views(z: Floats, constitution: Constitution, protocol: Protocol) -> Floats:
    """(…,): log-odds in favour of a from two verdicts (…, 2), clamped."""
    return _leads(clamped(z, constitution), protocol)


def decide(margin: Floats, constitution: Constitution) -> Outcomes:
    """(N,): which reply the margins prefer, or a tie."""
    return _decide(margin, _sigmoid(margin), constitution)


def pool(log_odds: Floats, counted: Bools, principles: tuple[Principle, ...], constitution: Constitution) -> Floats:
    """(N,): the margin over the counted views; 0 where none counts."""
    weights = np.array([principle.weight for principle in principles], dtype=np.float64)
    total = _totals(counted, weights)
    method = constitution.aggregate.method
    if method == "probability_mean":
        shares = _fsum(np.where(counted, weights * _sigmoid(log_odds), 0.0)) / total
        return np.array([logit(share) for share in shares.tolist()], dtype=np.float64)
    summed = _fsum(np.where(counted, weights * log_odds, 0.0))
    return summed if method == "logit_sum" else summed / total


def contributions(made: Aggregated, constitution: Constitution) -> Floats:
    """(N, P): what each principle adds to the margin; a row's sum is the margin.

    With `probability_mean` they are votes: their sum is P(a is better) − ½, as that is what is linear there.
    """
    weights = np.array([principle.weight for principle in made.principles], dtype=np.float64)
    total = np.where(made.counted, weights, 0.0).sum(axis=1, keepdims=True)
    total[total == 0] = 1.0
    method = constitution.aggregate.method
    views = _sigmoid(made.log_odds) - 0.5 if method == "probability_mean" else made.log_odds
    return np.where(made.counted, weights * views, 0.0) / (1.0 if method == "logit_sum" else total)


def without(
    made: Aggregated, evidence: Evidence, index: int, constitution: Constitution, protocol: Protocol
) -> Outcomes:
    """(N,): the outcomes if one principle did not exist.

    Where it counts without a veto this is closed form, since the pool is linear: M₋ᵢ = (W·M − wᵢ·lᵢ) / (W − wᵢ). Where
    it vetoes, the pool is another one, and those pairs are added up again.
    """
    counted = made.counted.copy()
    counted[:, index] = False
    kept = [number != index for number in range(len(made.principles))]
    again = made.vetoing[:, index] | (~evidence.asked[:, kept]).all(axis=1) | (made.outcome == FAILED)
    again |= made.counted[:, index] & ~counted.any(axis=1)
    outcome = made.outcome.copy()
    closed = np.flatnonzero(made.counted[:, index] & ~again)
    rest = counted[closed]
    margin = _quick_pool(made.log_odds[closed], rest, made.principles, constitution)
    outcome[closed] = _decide(margin, 1 / (1 + np.exp(-margin)), constitution)
    unsure = closed[_near_an_edge(margin, constitution)]
    margin = pool(made.log_odds[unsure], counted[unsure], made.principles, constitution)
    outcome[unsure] = decide(margin, constitution)
    if again.any():
        outcome[again] = aggregate(evidence.rows(again).of(kept), constitution, protocol).outcome
    return outcome


def _quick_pool(
    log_odds: Floats, counted: Bools, principles: tuple[Principle, ...], constitution: Constitution
) -> Floats:
    """`pool` in numpy's arithmetic: right to about 1e-12, which decides every pair that is not near an edge."""
    weights = np.array([principle.weight for principle in principles], dtype=np.float64)
    method, kept = constitution.aggregate.method, np.where(counted, log_odds, 0.0)
    total = counted @ weights
    if method == "probability_mean":
        share = np.where(counted, 1 / (1 + np.exp(-kept)), 0.0) @ weights / total
        share = np.clip(share, 1e-12, 1 - 1e-12)
        return np.asarray(np.log(share / (1 - share)))
    return np.asarray(kept @ weights if method == "logit_sum" else kept @ weights / total)


def _near_an_edge(margin: Floats, constitution: Constitution) -> Bools:
    """Margins so near to a tie's edge that the last bits decide."""
    band = constitution.judge_defaults.tie_band
    edges = (0.0, constitution.aggregate.min_margin, logit(0.5 + band) if band else 0.0)
    near = [np.abs(np.abs(margin) - edge) < _LAST_BITS for edge in edges]
    return np.asarray(np.any(near, axis=0))


def objectives(constitution: Constitution, by: Literal["tier", "tag"]) -> dict[str, frozenset[str]]:
    """The principles of each tier, or of each tag in a scope: what a reward model per objective is about."""
    groups: dict[str, set[str]] = {}
    for principle in constitution.active:
        for name in [principle.tier] if by == "tier" else principle.applies_to.tags:
            if name is not None and principle.decides:
                groups.setdefault(name, set()).add(principle.id)
    return {name: frozenset(members) for name, members in groups.items()}


def sigmoid(x: float) -> float:
    """1 / (1 + exp(−x)), without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def logit(probability: float) -> float:
    """log(p / (1 − p)), finite for every p."""
    kept = min(max(probability, _FARTHEST), 1.0 - _FARTHEST)
    return math.log(kept / (1.0 - kept))


def _leads(z: Floats, protocol: Protocol) -> Floats:
    difference = z[..., 0] - z[..., 1]
    return np.asarray(difference if protocol == "pointwise" else difference / 2)


def clamped(z: Floats, constitution: Constitution) -> Floats:
    """(…,): log-odds within `aggregate.clamp`. Adding 0 turns −0 into 0, as the slow path does."""
    clamp = constitution.aggregate.clamp
    return z + 0.0 if clamp is None else np.clip(z, logit(clamp[0]), logit(clamp[1])) + 0.0


def _vetoes(
    principles: tuple[Principle, ...], log_odds: Floats, z: Floats, constitution: Constitution, protocol: Protocol
) -> Bools:
    rules = constitution.aggregate
    strict: Bools = np.array([each.severity == "hard" and rules.hard == "veto" for each in principles], dtype=np.bool_)
    size = np.abs(np.nan_to_num(log_odds))
    breaks: Bools = np.full(size.shape, True) if protocol == "pairwise" else (z[..., 0] < 0) != (z[..., 1] < 0)
    vetoes: Bools = strict & breaks & (size > 0) & (size >= rules.veto_margin)
    return vetoes


def _highest(vetoing: Bools, weighed: Bools, principles: tuple[Principle, ...], constitution: Constitution) -> Bools:
    """The vetoing views of the highest tier, or all that are weighed where nothing vetoes."""
    ranks = np.array([constitution.tier_rank(principle) for principle in principles], dtype=np.int64)
    rank_of = np.where(vetoing, ranks, len(constitution.tiers) + 1)
    top = vetoing & (rank_of == rank_of.min(axis=1, keepdims=True))
    return np.where(vetoing.any(axis=1, keepdims=True), top, weighed)


def _decide(margin: Floats, probability: Floats, constitution: Constitution) -> Outcomes:
    near_half = np.abs(probability - 0.5) < constitution.judge_defaults.tie_band
    tied = (margin == 0) | near_half | (np.abs(margin) < constitution.aggregate.min_margin)
    decided = np.where(tied, TIE, np.where(margin > 0, A, B))
    return np.where(np.isnan(margin), FAILED, decided).astype(np.int8)


def _totals(counted: Bools, weights: Floats) -> Floats:
    """Σ w over the counted views of each pair, computed once for every set of them that occurs; 1 where none counts."""
    packed = np.packbits(counted, axis=1)
    _, first, which = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    totals = _fsum(np.where(counted[first], weights, 0.0))
    totals[totals == 0] = 1.0
    return np.asarray(totals[which.reshape(-1)])


def _fsum(rows: Floats) -> Floats:
    return np.array([math.fsum(row) for row in rows.tolist()], dtype=np.float64)


def _sigmoid(values: Floats) -> Floats:
    flat = [value if math.isnan(value) else sigmoid(value) for value in values.ravel().tolist()]
    return np.array(flat, dtype=np.float64).reshape(values.shape)
