"""How a judge decided: outcomes, failures by type, the spread of margins, and what the shown order did to its verdicts.

Counts only; whether the decisions were right is `agreement`'s question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field

from evaluation.intervals import STANDARD, Estimate, Resampling, mean
from ratify.types import Label, Record, Verdict

BINS = 16


class Histogram(Record):
    """Counts between edges; one more edge than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Judging(Record):
    """The decisions of one judge over one set of pairs."""

    verdicts: int = 0
    outcomes: dict[str, int] = Field(default_factory=dict)
    """Labels by outcome: `a`, `b`, `tie`, `failed`."""
    failures: dict[str, int] = Field(default_factory=dict)
    """Verdicts that could not be read, by type."""
    margins: Histogram | None = None
    """Size of the weighted log-odds of decided labels."""


class Position(NamedTuple):
    """What the shown order does to pairwise verdicts, over pairs judged in both orders; clustered by prompt."""

    first: Estimate
    """Share of verdicts for the completion shown first; one half when there is no bias."""
    flips: Estimate
    """Share of (pair, principle) whose two verdicts prefer different completions."""


def summarise_judging(labels: Sequence[Label], verdicts: Sequence[Verdict]) -> Judging:
    """Count what a judge did."""
    sizes = [abs(label.margin) for label in labels if label.margin is not None and label.outcome != "failed"]
    return Judging(
        verdicts=len(verdicts),
        outcomes={side: sum(label.outcome == side for label in labels) for side in ("a", "b", "tie", "failed")},
        failures=dict(Counter(str(verdict.failure) for verdict in verdicts if verdict.failure is not None)),
        margins=histogram(sizes) if sizes else None,
    )


def histogram(values: Sequence[float], bins: int = BINS) -> Histogram:
    """Equal bins from 0 to the 99th percentile; the last bin also holds what lies beyond."""
    top = float(np.quantile(values, 0.99)) or 1.0
    counts, edges = np.histogram(np.minimum(values, top), bins=bins, range=(0.0, top))
    return Histogram(edges=tuple(float(edge) for edge in edges), counts=tuple(int(count) for count in counts))


def position_effect(verdicts: Sequence[Verdict], how: Resampling = STANDARD) -> Position | None:
    """Position bias and flip rate of pairwise verdicts; None when no pair was judged in both orders.

    Log-odds of a pairwise verdict favour the completion shown first, so two verdicts on swapped orders agree when their
    signs differ.
    """
    seen: defaultdict[tuple[str, str, str, str], dict[str, float]] = defaultdict(dict)
    prompts: dict[tuple[str, str, str, str], str] = {}
    for verdict in verdicts:
        if verdict.protocol == "pairwise" and verdict.second_id is not None and verdict.logit is not None:
            low, high = sorted((verdict.first_id, verdict.second_id))
            key = (verdict.judge, verdict.principle, low, high)
            seen[key][verdict.first_id] = verdict.logit
            prompts[key] = verdict.prompt_id
    both = {key: tuple(orders.values()) for key, orders in seen.items() if len(orders) == 2}
    if not both:
        return None
    names = [prompts[key] for key in both]
    first = [((one > 0) + (other > 0)) / 2 for one, other in both.values()]
    flips = [float((one > 0) == (other > 0)) for one, other in both.values()]
    return Position(first=mean(first, names, how, share=True), flips=mean(flips, names, how, share=True))
