"""Judges whose biases are known, because they are made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from judges.bias import TwoOrders


class Truth(NamedTuple):
    """What a synthetic judge is made of; log-odds."""

    quality: float = 1.5
    position: float = 0.4
    """Favour for the first position."""
    length: float = 0.8
    """Favour per unit of log length ratio."""
    format: float = 0.0
    family: float = 0.0
    noise: float = 1.0
    """Standard deviation of the noise of one verdict."""


def judged(truth: Truth, seed: int, prompts: int = 150, pairs_per_prompt: int = 2) -> list[TwoOrders]:
    """Pairs judged in both orders; better replies are longer, and pairs of one prompt share part of their noise."""
    generator = np.random.default_rng(seed)
    n = prompts * pairs_per_prompt
    quality = generator.choice([-1.0, 1.0], n)
    length = 0.3 * quality + generator.normal(0, 0.6, n)
    format_gap = generator.normal(0, 0.2, n)
    own = generator.choice([-1.0, 0.0, 1.0], n)
    lead = truth.quality * quality + truth.length * length + truth.format * format_gap + truth.family * own
    lead += np.repeat(generator.normal(0, truth.noise / 2, prompts), pairs_per_prompt)
    noise = generator.normal(0, truth.noise, (2, n))
    a_first, b_first = truth.position + lead + noise[0], truth.position - lead + noise[1]
    return [
        TwoOrders(f"p{index // pairs_per_prompt}", *map(float, row))
        for index, row in enumerate(zip(a_first, b_first, length, format_gap, own, quality, strict=True))
    ]
