"""The pairs of several elements as index tensors into the N completions of their batch.

Reward models and preference optimisation share it. Left out: losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from training.data import Element


class PairIndex(NamedTuple):
    """All pairs of a batch."""

    chosen_P: Tensor
    """Completion, in [0, N), that each pair prefers."""
    rejected_P: Tensor
    probability_P: Tensor
    """P(chosen is better)."""


def pair_index(elements: Sequence[Element], device: torch.device, *, soft: bool) -> PairIndex:
    """Number the completions through and collect the pairs; hard labels (`soft=False`) set every probability to 1."""
    chosen: list[int] = []
    rejected: list[int] = []
    probability: list[float] = []
    start = 0
    for element in elements:
        chosen += [start + pair.chosen for pair in element.pairs]
        rejected += [start + pair.rejected for pair in element.pairs]
        probability += [pair.probability if soft else 1.0 for pair in element.pairs]
        start += len(element.completions)
    return PairIndex(
        torch.tensor(chosen, device=device),
        torch.tensor(rejected, device=device),
        torch.tensor(probability, device=device),
    )


def correct(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """1 where chosen is above rejected, ½ where they are equal, else 0. (P,) → (P,)."""
    return 0.5 * (torch.sign(chosen_P - rejected_P) + 1.0)


def pair_accuracy(values: Sequence[Tensor], elements: Sequence[Element]) -> float:
    """Share of pairs that values, (K,) for each element, order as the labels do; equal values count one half."""
    pairs = pair_index(elements, torch.device("cpu"), soft=False)
    flat_N = torch.cat(list(values))
    return float(correct(flat_N[pairs.chosen_P], flat_N[pairs.rejected_P]).mean())
