"""Which elements are computed together: by seed for an optimiser step, by length for its micro-batches.

What an optimiser step holds depends only on seed, step and the data. How it is cut into processes and micro-batches
is a matter of memory and speed; the engine's global denominator makes the result the same. Left out: computing
anything.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from training.data import Element
from training.tree import Layout, footprint

ItemT = TypeVar("ItemT")


class Cut(NamedTuple):
    """When a micro-batch is closed before it fills the budget, because padding is computed too."""

    max_waste: float
    """Largest share of padding in a micro-batch."""
    min_tokens: int
    """Smaller micro-batches are not closed for their padding: each has a fixed cost."""


CPU_CUT = Cut(0.05, 384)
"""A CPU is busy with a few hundred tokens, and padding costs it what tokens cost."""
ACCELERATOR_CUT = Cut(0.15, 4096)
"""A GPU needs thousands of tokens at once; a launch of few costs it nearly the time of one of many."""


def cut_for(device_type: str) -> Cut:
    """The cut for torch's name of a device type, `cpu` or another."""
    return CPU_CUT if device_type == "cpu" else ACCELERATOR_CUT


def steps_per_epoch(elements: int, batch: int) -> int:
    """Optimiser steps in one pass; the last one may be smaller."""
    return math.ceil(elements / batch)


def step_elements(elements: Sequence[ItemT], step: int, batch: int, seed: int) -> list[ItemT]:
    """The elements of optimiser step `step` (from 0): a fresh permutation for each epoch, a function of the seed."""
    epoch, within = divmod(step, steps_per_epoch(len(elements), batch))
    order = list(range(len(elements)))
    random.Random(f"order/{seed}/{epoch}").shuffle(order)
    return [elements[index] for index in order[within * batch : (within + 1) * batch]]


def by_length(elements: Sequence[Element], layout: Layout) -> list[int]:
    """Indices of elements from the longest row to the shortest; equal lengths keep their order."""
    return sorted(range(len(elements)), key=lambda index: -footprint(elements[index], layout).length)


def share(order: Sequence[int], rank: int, processes: int) -> list[int]:
    """This process's part of elements sorted by length: every n-th, so that all get like lengths."""
    return list(order[rank::processes])


def micro_batches(
    elements: Sequence[Element], order: Sequence[int], budget: int, layout: Layout, cut: Cut = CPU_CUT
) -> list[list[int]]:
    """Cut elements, sorted from long to short, into batches of at most `budget` padded tokens.

    An element larger than the budget makes a batch of its own. Returns indices into `elements`.
    """
    batches: list[list[int]] = []
    rows = length = real = 0
    for index in order:
        size = footprint(elements[index], layout)
        own = size.rows * size.length
        padded = real + own if layout == "packed" else (rows + size.rows) * length
        wasteful = padded >= cut.min_tokens and real + own < (1 - cut.max_waste) * padded
        if not batches or padded > budget or wasteful:
            batches.append([])
            rows, length, real = 0, size.length, 0
        batches[-1].append(index)
        rows += size.rows
        real += own
    return batches
