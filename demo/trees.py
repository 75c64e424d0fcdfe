"""Trees of tokens: a shared trunk once, several branches that do not see each other, packed into padded batches.

Restarted positions and a tree mask make every branch see exactly what a judge call with that branch alone would see,
at a third of the work. Nothing here knows what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Example(NamedTuple):
    """A trunk, its branches, and what is to be learnt from them."""

    trunk: list[int]
    branches: list[list[int]]
    targets: list[float]
    """Per branch the probability of the first answer: 1, 0, or 0.5 where two replies tie."""
    answers: tuple[int, int]
    """Token ids of the two answers."""
    good: bool
    """True when the trunk's reply is right and true, so that its tokens are worth learning by heart."""
    parts: list[tuple[int, int]]
    """Where in the trunk each sentence of a reply ends, and the number of the part that it plays."""


class TreeBatch(NamedTuple):
    """B trees of T tokens with N branches and S marked sentences in all.

    Shapes: ids, positions (B, T); allowed (B, 1, T, T), True where attention may go; rows, columns (N,), where each
    branch must answer; targets (N,); answers (N, 2); worth (B, T), True where the next trunk token is worth learning;
    parts (S, 3), row, column and part of each sentence.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    answers: torch.Tensor
    worth: torch.Tensor
    parts: torch.Tensor


def collate(examples: Sequence[Example], pad: int) -> TreeBatch:
    """Pad examples into a batch."""
    width = max(len(each.trunk) + sum(map(len, each.branches)) for each in examples)
    ids = torch.full((len(examples), width), pad)
    positions = torch.zeros(len(examples), width, dtype=torch.long)
    segments = torch.full((len(examples), width), -1)
    worth = torch.zeros(len(examples), width, dtype=torch.bool)
    spots: list[tuple[int, int]] = []
    for row, each in enumerate(examples):
        at = len(each.trunk)
        ids[row, :at], positions[row, :at], segments[row, :at] = torch.tensor(each.trunk), torch.arange(at), 0
        worth[row, : at - 1] = each.good
        for number, branch in enumerate(each.branches, start=1):
            end = at + len(branch)
            ids[row, at:end], segments[row, at:end] = torch.tensor(branch), number
            positions[row, at:end] = torch.arange(len(each.trunk), len(each.trunk) + len(branch))
            spots.append((row, end - 1))
            at = end
    parts = [(row, column, part) for row, each in enumerate(examples) for column, part in each.parts]
    return TreeBatch(
        ids=ids,
        positions=positions,
        allowed=tree_mask(segments),
        rows=torch.tensor([row for row, _ in spots], dtype=torch.long),
        columns=torch.tensor([column for _, column in spots], dtype=torch.long),
        targets=torch.tensor([target for each in examples for target in each.targets]),
        answers=torch.tensor([each.answers for each in examples for _ in each.branches]),
        worth=worth,
        parts=torch.tensor(parts, dtype=torch.long).view(-1, 3),
    )


def tree_mask(segments: torch.Tensor) -> torch.Tensor:
    """Which token sees which: its past in the trunk (0) and in its own branch; padding (-1) sees padding only.

    segments (B, T) -> (B, 1, T, T), True where attention may go.
    """
    width = segments.shape[1]
    past = torch.ones(width, width, dtype=torch.bool).tril()
    mine, other = segments[:, :, None], segments[:, None, :]
    return (past & ((other == 0) & (mine >= 0) | (other == mine)))[:, None]
