"""The judges of a panel about single views (one principle on one pair): their votes as one, and when it is settled.

A judge's lead on a view is the log-odds in favour of a that `aggregate.py` makes of its two verdicts; the sign is its
vote, a lead of 0 is no vote. The panel's lead is placed on two log-odds again, so that `aggregate.py` reads it as it
reads one judge's.

Left out: verdicts and their keys (`panel.py`), and the mean of log-odds, which is taken verdict by verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from judges.aggregate import Bools, Floats
from judges.agreement_statistics import MISSING, Votes
from judges.dawid_skene import fit_dawid_skene
from ratify.types import Protocol

Pooling = Literal["logit_mean", "vote", "dawid_skene"]
_FARTHEST = 1e-12
_ROUNDING = 1e-12
LEAST_AGREEING = 2
"""Judges that must agree before a mean of log-odds is settled."""


def view_leads(z: Floats, protocol: Protocol) -> Floats:
    """(…,): log-odds in favour of a from two verdicts (…, 2); NaN where one is missing."""
    difference = z[..., 0] - z[..., 1]
    return np.asarray(difference if protocol == "pointwise" else difference / 2)


def votes_of(leads: Floats) -> Votes:
    """0 for a, 1 for b, `MISSING` for no vote."""
    sides = np.where(np.isnan(leads) | (leads == 0), MISSING, leads < 0)
    return np.asarray(sides, dtype=np.int64)


def pool_votes(leads: Floats, weights: Sequence[float], pooling: Pooling) -> Floats:
    """(n,): the panel's leads from the judges' (n, J), NaN where a judge said nothing; 0 where nobody voted."""
    if pooling == "dawid_skene":
        return _believed(votes_of(leads))
    rows = (_answered(weights, row) for row in leads.tolist())
    return np.array([_vote([z for _, z in row], [v for v, _ in row]) for row in rows], dtype=np.float64)


def place_leads(leads: Floats, means: Floats, protocol: Protocol) -> Floats:
    """(n, 2): two log-odds whose lead is the panel's (n,).

    Pairwise they are opposite. Pointwise they lie around 0 when the judges' `means` (n, 2) say that the winner meets
    the principle and the loser breaks it, else both on the side of the mean, so that a veto asks what the judges said.
    """
    if protocol == "pairwise":
        return np.stack([leads, -leads], axis=1)
    winner, loser = np.where(leads[:, None] >= 0, means, means[:, ::-1]).T
    middle = np.where((winner >= 0) & (loser < 0), 0.0, np.where(means.sum(axis=1) >= 0, 1.0, -1.0) * np.abs(leads))
    return np.stack([middle + leads / 2, middle - leads / 2], axis=1)


def pool_views(
    z: Floats, asked: Bools, weights: Sequence[float], *, pooling: Pooling, quorum: float, protocol: Protocol
) -> tuple[Floats, Bools]:
    """Whole views pooled: (n, 2) log-odds, NaN where too few answered; and (n,) whether enough did.

    Args:
        z: (n, J, 2): NaN where a verdict is missing.
        asked: (n, J): the judge was asked about the view.
        weights: Of the J judges.
        pooling: `vote` or `dawid_skene`.
        quorum: Least share of the weight of those asked that must have answered on both sides.
        protocol: How they were asked.
    """
    shares, answered = np.array(weights), asked & ~np.isnan(z).any(axis=2)
    enough = enough_weight(answered @ shares, asked @ shares, quorum)
    placed = np.full((len(z), 2), np.nan)
    if enough.any():
        leads = np.where(answered, view_leads(z, protocol), np.nan)[enough]
        counted = np.where(answered, shares, 0.0)[enough]
        means = (np.where(answered[..., None], z, 0.0)[enough] * counted[..., None]).sum(axis=1)
        means /= counted.sum(axis=1)[:, None]
        placed[enough] = place_leads(pool_votes(leads, weights, pooling), means, protocol)
    return placed, enough


def enough_weight(answered: Floats, asked: Floats, quorum: float) -> Bools:
    """Does the weight that answered make a verdict?"""
    return np.asarray((answered > 0) & (answered >= quorum * asked - _ROUNDING))


def settled(leads: Sequence[float], weights: Sequence[float]) -> bool:
    """Can the judges still to come no longer turn a vote?

    Args:
        leads: Log-odds of the judges that answered, in the order of `weights`.
        weights: Of all judges, those to come last.
    """
    margin = math.fsum(weight * _sign(lead) for weight, lead in zip(weights, leads, strict=False))
    return abs(margin) > math.fsum(weights[len(leads) :])


def settled_views(leads: Floats, weights: Sequence[float], pooling: Pooling, agree_above: float) -> Bools:
    """(n,): nobody needs to be asked further.

    Args:
        leads: (n, j) of the first j judges; NaN where one said nothing.
        weights: Of all J judges, in the order in which they are asked.
        pooling: `vote`: when the others cannot turn it; else: when at least two, and all who answered, lean to one
            side by `agree_above` or more.
        agree_above: In log-odds.
    """
    if pooling == "vote":
        asked, to_come = leads.shape[1], list(weights[leads.shape[1] :])
        rows = (
            [(v, z) for v, z in zip(weights[:asked], row, strict=True) if not math.isnan(z)] for row in leads.tolist()
        )
        found = [settled([z for _, z in row], [v for v, _ in row] + to_come) for row in rows]
        return np.array(found, dtype=np.bool_)
    count = (~np.isnan(leads)).sum(axis=1)
    agreed = ((leads >= agree_above).sum(axis=1) == count) | ((leads <= -agree_above).sum(axis=1) == count)
    return np.asarray(agreed & (count >= LEAST_AGREEING))


def _answered(weights: Sequence[float], leads: Sequence[float]) -> list[tuple[float, float]]:
    return [(weight, z) for weight, z in zip(weights, leads, strict=True) if not math.isnan(z)]


def _vote(leads: Sequence[float], weights: Sequence[float]) -> float:
    """ln((for + ½) / (against + ½)), weights scaled to mean 1."""
    total = math.fsum(weights)
    if total == 0:
        return 0.0
    votes = len(weights)
    lead = math.fsum(weight * _sign(z) for weight, z in zip(weights, leads, strict=True)) * votes / total
    return math.log((votes + lead + 1) / (votes - lead + 1))


def _believed(votes: Votes) -> Floats:
    """ln P(a) − ln P(b) by Dawid-Skene over all these views; 0 where nobody voted."""
    leads, voted = np.zeros(len(votes)), (votes != MISSING).any(axis=1)
    if voted.any():
        truth = np.maximum(fit_dawid_skene(votes[voted]).truth, _FARTHEST)
        leads[voted] = np.log(truth[:, 0]) - np.log(truth[:, 1])
    return leads


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
