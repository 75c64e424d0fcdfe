"""The pairs of several elements as index tensors into the N completions of their batch.

Reward models and preference optimisation share it. Left out: losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ratify.errors import InputError
from training.data import Element


class PairIndex(NamedTuple):
    """All pairs of a batch."""

    chosen_P: Tensor
    """Completion, in [0, N), that each pair prefers."""
    rejected_P: Tensor
    probability_P: Tensor
    """P(chosen is better)."""
    weight_P: Tensor
    """How much each pair counts."""
    siblings_P: Tensor
    """How many pairs the prompt of each pair has, itself included."""


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
        torch.tensor([pair.weight for element in elements for pair in element.pairs], device=device),
        torch.tensor([float(len(element.pairs)) for element in elements for _ in element.pairs], device=device),
    )


def margins(elements: Sequence[Element], device: torch.device) -> Tensor:
    """The labels' margins, (P,), which `require_margins` has checked."""
    return torch.tensor([pair.margin or 0.0 for element in elements for pair in element.pairs], device=device)


def require_margins(elements: Sequence[Element], setting: str) -> None:
    """Refuse data without the margins that a setting needs.

    Raises:
        InputError: a pair has no margin, or one that is not above nought.
    """
    for element in elements:
        for pair in element.pairs:
            if pair.margin is None or not 0 < pair.margin < math.inf:
                raise InputError(
                    f"{setting} needs a margin above 0 in every row, and a row of prompt {element.prompt_id} has "
                    f"{pair.margin}; add the column `margin`, drop such rows, or choose another setting"
                )


def correct(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """1 where chosen is above rejected, ½ where they are equal, else 0. (P,) → (P,)."""
    return 0.5 * (torch.sign(chosen_P - rejected_P) + 1.0)


def calibration_error(values: Sequence[Tensor], elements: Sequence[Element], bins: int = 10) -> float:
    """Expected calibration error of σ(difference of values) as a probability (arXiv 1706.04599, equation 3).

    A pair is read in the order that the values prefer, so confidence lies in [½, 1]; the outcome is the label's
    probability of that order, so soft labels count as shares. Bins are equally wide on [½, 1].
    """
    pairs = pair_index(elements, torch.device("cpu"), soft=True)
    flat_N = torch.cat(list(values)).double()
    confidence_P = torch.sigmoid(flat_N[pairs.chosen_P] - flat_N[pairs.rejected_P])
    agrees_P = confidence_P >= 0.5
    outcome_P = torch.where(agrees_P, pairs.probability_P, 1 - pairs.probability_P).double()
    confidence_P = torch.where(agrees_P, confidence_P, 1 - confidence_P)
    bin_P = ((confidence_P - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    gap_bins = torch.zeros(bins, dtype=torch.float64).index_add(0, bin_P, outcome_P - confidence_P)
    # |accuracy − confidence| of a bin times its share of pairs is |sum of the differences| over all pairs.
    return float(gap_bins.abs().sum() / len(confidence_P))


def pair_accuracy(values: Sequence[Tensor], elements: Sequence[Element]) -> float:
    """Share of pairs that values, (K,) for each element, order as the labels do; equal values count one half."""
    pairs = pair_index(elements, torch.device("cpu"), soft=False)
    flat_N = torch.cat(list(values))
    return float(correct(flat_N[pairs.chosen_P], flat_N[pairs.rejected_P]).mean())
