"""Which elements are computed together: by seed for an optimiser step, by length for its micro-batches.

What an optimiser step holds depends only on seed, step and the data. How it is cut into processes and micro-batches
is a matter of memory and speed; the engine's global denominator makes the result the same. Left out: computing
anything.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

from training.data import Element
from training.tree import Layout, footprint

ItemT = TypeVar("ItemT")

MAX_WASTE = 0.15
"""Largest share of padding before a micro-batch is closed early."""
MIN_TOKENS = 1024
"""Smaller micro-batches are not split to save padding: each has a fixed cost."""


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


def micro_batches(elements: Sequence[Element], order: Sequence[int], budget: int, layout: Layout) -> list[list[int]]:
    """Cut elements, sorted from long to short, into batches of at most `budget` padded tokens.

    An element larger than the budget makes a batch of its own. Returns indices into `elements`.
    """
    batches: list[list[int]] = []
    rows = length = real = 0
    for index in order:
        size = footprint(elements[index], layout)
        padded = (rows + size.rows) * length
        wasteful = padded >= MIN_TOKENS and real + size.rows * size.length < (1 - MAX_WASTE) * padded
        if not batches or padded > budget or wasteful:
            batches.append([])
            rows, length, real = 0, size.length, 0
        batches[-1].append(index)
        rows += size.rows
        real += size.rows * size.length
    return batches
