"""A rollout batch and all that is known of it before learning, as columns for each prompt or rows for each reply.

Left out: how the values come about (`rollout_loop`).

Shapes: N completions of a rollout batch, T tokens of the longest one, M tokens of a prompt's completions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from training.data import Element, Pair
from training.rewards import Batch, Scored


class Sample(NamedTuple):
    """One rollout batch with everything that was computed on it before learning."""

    batch: Batch
    scored: Scored
    score_N: Tensor
    """Shaped, 0 where there is none."""
    old: list[Tensor]
    """Of each element, (M,), as the three that follow."""
    reference: list[Tensor]
    value: list[Tensor]
    sampler: list[Tensor]

    @property
    def counts(self) -> list[int]:
        """Tokens of each completion."""
        return [len(completion) for element in self.batch.elements for completion in element.completions]

    def rows(self, columns: Sequence[Tensor]) -> Tensor:
        """Values of elements' tokens as (N, T), 0 behind the end, float32."""
        return pad_sequence(list(torch.split(torch.cat(list(columns)), self.counts)), batch_first=True)

    def columns(self, rows_NT: Tensor) -> list[Tensor]:
        """(N, T) back to a tensor (M,) for each element."""
        flat = [row[:count] for row, count in zip(rows_NT, self.counts, strict=True)]
        sizes = [len(element.completions) for element in self.batch.elements]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        return [torch.cat(flat[start : start + size]) for start, size in zip(starts, sizes, strict=True)]


def best_and_worst(sample: Sample) -> tuple[list[Element], list[Tensor]]:
    """Elements of the best and the worst scored completion of each prompt, and the reference's sums, (2,) each.

    The label is q = σ(difference of scores), Bradley-Terry's; prompts whose scored completions are all alike are left
    out, for there is nothing to prefer.
    """
    elements: list[Element] = []
    reference: list[Tensor] = []
    start = 0
    for element, reference_M in zip(sample.batch.elements, sample.reference, strict=True):
        numbers = range(start, start + len(element.completions))
        start += len(element.completions)
        scored = [n for n in numbers if bool(sample.scored.has_score_N[n])]
        if not scored:
            continue
        best = max(scored, key=lambda n: float(sample.score_N[n]))
        worst = min(scored, key=lambda n: float(sample.score_N[n]))
        gap = float(sample.score_N[best] - sample.score_N[worst])
        if not gap > 0:
            continue
        places = [best - numbers.start, worst - numbers.start]
        sums = [
            part.sum() for part in torch.split(reference_M, [len(completion) for completion in element.completions])
        ]
        pair = Pair(0, 1, 1 / (1 + math.exp(-min(gap, 50.0))), gap)
        elements.append(element._replace(completions=tuple(element.completions[p] for p in places), pairs=(pair,)))
        reference.append(torch.stack([sums[p] for p in places]))
    return elements, reference
