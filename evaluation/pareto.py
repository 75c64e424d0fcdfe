"""Which of several policies are worth a choice: those that no other one beats in every objective at once.

For mixtures of rewards trained with several weights. An objective is a mean with its interval; a policy is *dominated*
when another is at least as good in all objectives and better in one. *Clearly* dominated when, besides, the intervals
of one objective in which it is worse do not meet: near ties are no reason to drop a policy. Left out: training them
(`bench/pareto.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from evaluation.intervals import Estimate
from ratify.types import Record


class Candidate(Record):
    """One policy with what it reaches; more is better."""

    name: str
    objectives: dict[str, Estimate] = Field(min_length=1)
    kl: Estimate
    """Nats per completion, the price."""


class Ranked(Record):
    """A policy and who beats it."""

    candidate: Candidate
    dominated_by: tuple[str, ...] = ()
    clearly: bool = False
    """Whether one of them beats it beyond the intervals."""


def rank(candidates: Sequence[Candidate]) -> list[Ranked]:
    """Every candidate in its order, with those that dominate it; all must have the same objectives.

    KL is reported and takes no part: it is spent, not wanted.
    """
    return [_ranked(one, [other for other in candidates if other is not one]) for one in candidates]


def frontier(candidates: Sequence[Candidate]) -> list[str]:
    """The names of those that nobody dominates."""
    return [ranked.candidate.name for ranked in rank(candidates) if not ranked.dominated_by]


def _ranked(one: Candidate, others: Sequence[Candidate]) -> Ranked:
    better = [other for other in others if _dominates(other, one)]
    return Ranked(
        candidate=one,
        dominated_by=tuple(other.name for other in better),
        clearly=any(_apart(other, one) for other in better),
    )


def _dominates(other: Candidate, one: Candidate) -> bool:
    gaps = [other.objectives[name].value - mine.value for name, mine in one.objectives.items()]
    return min(gaps) >= 0 and max(gaps) > 0


def _apart(other: Candidate, one: Candidate) -> bool:
    """In one objective the other's interval lies above; an interval that is missing meets everything."""
    ends = ((other.objectives[name].low, mine.high) for name, mine in one.objectives.items())
    return any(low is not None and high is not None and low > high for low, high in ends)
