"""How varied the replies of several policies are, on the same number of n-grams of the same prompts for each.

Distinct n-grams (Li et al. 2016), their entropy in bits, and the collision probability, that two n-grams drawn without
replacement are equal: sum of c (c - 1) over N (N - 1), Simpson's unbiased index (1949). All three fall or rise with the
amount of text, so it is fixed (`prompt_groups`). Diversity of meaning is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import Estimate, student
from evaluation.prompt_groups import GROUPS, budget_of, group_of_prompts
from evaluation.word_stream import Hashes, WordStream, ngram_hashes

Counts = NDArray[np.int64]


def distinct(counts: Counts) -> float:
    """Different n-grams over n-grams."""
    return len(counts) / int(counts.sum())


def entropy(counts: Counts) -> float:
    """Entropy of the frequencies in bits."""
    shares = counts / counts.sum()
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def collision(counts: Counts) -> float:
    """Probability that two of the n-grams are equal."""
    size = int(counts.sum())
    return float((counts * (counts - 1)).sum()) / (size * (size - 1))


FIGURES: dict[str, Callable[[Counts], float]] = {"distinct": distinct, "entropy": entropy, "collision": collision}


class Compared(NamedTuple):
    """A figure of two policies; the difference is new minus old, paired by groups of prompts."""

    old: Estimate
    new: Estimate
    difference: Estimate


class NgramFigures(NamedTuple):
    """Figures of two policies' n-grams of one order."""

    distinct: Compared
    entropy: Compared
    collision: Compared
    budget: int
    """N-grams in each group of prompts, the same for both policies."""


def counts_of(hashes: Hashes) -> Counts:
    """How often each different hash occurs, in order of the hash."""
    ranked = np.sort(hashes)
    edges = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
    return np.diff(edges, prepend=0, append=len(ranked)) if len(ranked) else np.zeros(0, dtype=np.int64)


def compared(old: Sequence[float], new: Sequence[float], confidence: float, sizes: tuple[int, int]) -> Compared:
    """Old, new and difference from one value per group of prompts; `sizes` are the replies of both."""
    gaps = [after - before for before, after in zip(old, new, strict=True)]
    return Compared(
        student(old, confidence, n=sizes[0]),
        student(new, confidence, n=sizes[1]),
        student(gaps, confidence, n=sum(sizes)),
    )


def ngram_figures(old: WordStream, new: WordStream, order: int, confidence: float = 0.95) -> NgramFigures:
    """Distinct share, entropy and collision of both policies.

    Raises:
        EvidenceError: when a group of prompts has too few n-grams in either policy.
    """
    group = group_of_prompts([old, new])
    streams = [_by_group(stream, group, order) for stream in (old, new)]
    sizes = [np.array([len(part) for part in parts]) for parts in streams]
    budget = budget_of(sizes, f"{order}-grams", f"{order}-grams")
    counted = [[counts_of(part[:budget]) for part in parts] for parts in streams]
    replies = (len(old.lengths), len(new.lengths))
    found = {
        name: compared([figure(one) for one in counted[0]], [figure(one) for one in counted[1]], confidence, replies)
        for name, figure in FIGURES.items()
    }
    return NgramFigures(**found, budget=budget)


def _by_group(stream: WordStream, group: NDArray[np.int64], order: int) -> list[Hashes]:
    """The n-gram hashes of each group of prompts, replies of one prompt together."""
    grams = ngram_hashes(stream, order)
    owner = group.astype(np.int8)[stream.prompts][grams.replies]
    return [grams.hashes[owner == number] for number in range(GROUPS)]
