"""The ranking that a prompt's pairs add up to, for Plackett-Luce.

Pairs give a ranking when exactly one order of the completions agrees with all of them: every pair is there, or at least
a chain from the best to the last. A prompt with a cycle, a tie or a gap has none and is left out, counted. Left out:
filling such gaps by guessing.

Shapes: E elements, K completions of the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ratify.errors import InputError
from training.data import Element


class RankingIndex(NamedTuple):
    """Rankings of a batch's elements."""

    place_EK: Tensor
    """Completions in [0, N), best first; 0 behind a ranking's end."""
    count_E: Tensor
    weight_E: Tensor
    """Mean weight of the element's pairs."""


def ranking(element: Element) -> list[int] | None:
    """The element's completions from the best to the last, or None when its pairs do not say."""
    worse: dict[int, set[int]] = {index: set() for index in range(len(element.completions))}
    for pair in element.pairs:
        if pair.probability == 0.5:
            return None
        better, loser = (pair.chosen, pair.rejected) if pair.probability > 0.5 else (pair.rejected, pair.chosen)
        worse[better].add(loser)
    order: list[int] = []
    while len(order) < len(worse):
        left = [index for index in worse if index not in order]
        best = [index for index in left if not any(index in worse[other] for other in left)]
        if len(best) != 1:
            return None
        order += best
    return order


def ranked(elements: Sequence[Element]) -> list[Element]:
    """The elements whose pairs give a ranking.

    Raises:
        InputError: there is none.
    """
    kept = [element for element in elements if ranking(element) is not None]
    if not kept:
        raise InputError(
            "reward_model.likelihood is 'plackett_luce' and no prompt's pairs give one ranking (cycles, ties or gaps); "
            "use likelihood = 'kwise'"
        )
    return kept


def ranking_index(elements: Sequence[Element], device: torch.device) -> RankingIndex:
    """Number the completions through and lay the rankings out in rows."""
    orders = [ranking(element) or [] for element in elements]
    width = max(map(len, orders))
    rows, start = [], 0
    for element, order in zip(elements, orders, strict=True):
        rows.append([start + index for index in order] + [0] * (width - len(order)))
        start += len(element.completions)
    weights = [sum(pair.weight for pair in element.pairs) / len(element.pairs) for element in elements]
    return RankingIndex(
        place_EK=torch.tensor(rows, device=device),
        count_E=torch.tensor([len(order) for order in orders], device=device),
        weight_E=torch.tensor(weights, device=device),
    )
