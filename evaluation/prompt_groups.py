"""Prompts in a few groups, for figures that are no mean over replies: distinct n-grams, collision, compression.

Such a figure depends on how much text it sees, and resampled prompts would repeat themselves, so it cannot be
bootstrapped. Instead the prompts are cut into groups, the figure is taken on the same amount of each group's text for
every policy, and the interval is Student's t over the groups: they hold different prompts, so they are independent, and
a group's policies answer the same prompts, so their difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import EvidenceError
from evaluation.word_stream import WordStream, mixed

GROUPS = 8
MIN_BUDGET = 20
"""Fewest n-grams in a group worth counting."""


def group_of_prompts(streams: Sequence[WordStream], groups: int = GROUPS) -> NDArray[np.int64]:
    """The group of each prompt number, shape (prompts,): shuffled, cut at equal shares of the text."""
    size = 1 + max((int(stream.prompts.max(initial=-1)) for stream in streams), default=-1)
    weight = np.zeros(size)
    for stream in streams:
        held = np.bincount(stream.prompts, stream.lengths, minlength=size)
        weight += held / max(1.0, held.sum())
    order = np.argsort(mixed(np.arange(size)), kind="stable")
    before = (np.cumsum(weight[order]) - weight[order] / 2) / max(weight.sum(), 1e-12)
    found = np.empty(size, dtype=np.int64)
    found[order] = np.minimum((before * groups).astype(np.int64), groups - 1)
    return found


def budget_of(sizes: Sequence[NDArray[np.int64]], what: str, unit: str, least: int = MIN_BUDGET) -> int:
    """What the group with the least of it has, in any policy.

    Raises:
        EvidenceError: when that is less than `least`.
    """
    budget = min(int(size.min()) for size in sizes)
    if budget < least:
        raise EvidenceError(f"{what}: too few {unit}: {budget} in the smallest of {GROUPS} groups, {least} are needed")
    return budget
