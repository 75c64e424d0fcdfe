"""A/A: the same policy sampled again with other seeds, and how much each figure of its replies varies by that alone.

The standard deviation from seed to seed stands beside a figure's interval. The interval says how far another set of
prompts would move it; this says how far another draw of replies to the same prompts does, which is what two rounds on
one held-out set differ by. Left out: judged figures and KL, which would cost calls and scores for every seed, and the
noise of training again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.families import FAMILIES, Figures
from evaluation.intervals import EvidenceError
from evaluation.lexical_family import mmd_between
from evaluation.report import Evidence, Repeated

REPEATED = ("compliance", "lexical", "duplicates", "length", "form")
"""Families that need nothing but the replies."""
DRAWS = 2
"""The intervals of repeats are thrown away."""


def repeated_figures(evidence: Evidence) -> dict[str, Repeated]:
    """Metric key of the new policy → its values over the repeats; empty with fewer than two repeats."""
    if len(evidence.repeats) < 2:
        return {}
    each = [_figures(evidence, number) for number in range(len(evidence.repeats))]
    keys = [key for key in each[0] if key.endswith("/new") and all(key in other for other in each)]
    return {key: _spread([found[key] for found in each]) for key in keys}


def _figures(evidence: Evidence, number: int) -> dict[str, float]:
    """The old policy's side is computed as well and not used: what is compared shares its budget of words."""
    figures, how = Figures(), evidence.how._replace(draws=DRAWS)
    again = replace(evidence, new=evidence.repeats[number], how=how)
    for name in REPEATED:
        if name in FAMILIES:
            figures.attempt(name, lambda name=name: FAMILIES[name](figures, again))  # type: ignore[misc]
    return {key: found.value for key, found in figures.metrics.items()}


def _spread(values: Sequence[float]) -> Repeated:
    return Repeated(values=tuple(values), spread=float(np.std(values, ddof=1)))


def floor_of_distance(evidence: Evidence) -> float | None:
    """The mean MMD between the new policy's replies and the same policy's with other seeds: the floor of every MMD.

    None without repeats, or where too few prompts have replies of both.
    """
    try:
        found = [mmd_between(evidence.new, each, evidence.how.seed) for each in evidence.repeats]
    except EvidenceError:
        return None
    return float(np.mean(found)) if found else None


def floor_of_scores(once: Mapping[str, float], again: Mapping[str, float]) -> float | None:
    """The KL, in nats per reply (k3), between two scorings of one policy on the same replies; 0 is a perfect engine.

    Args:
        once: completion id → log-probability.
        again: the same, scored in other batches.
    """
    both = [name for name in once if name in again]
    if not both:
        return None
    ratio = np.array([again[name] - once[name] for name in both])
    return float(np.mean(np.expm1(ratio) - ratio))
