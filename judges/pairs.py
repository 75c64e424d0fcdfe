"""Which completions of a prompt are compared: every pair, or as many as asked, drawn by seed.

Completions with the same text are never compared: there is nothing to prefer. A prompt's draw depends on the seed and
the prompt alone, so that another prompt more or less moves no pair.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import NamedTuple

from judges.questions import Pair
from ratify.canonical import digest
from ratify.types import Completion


class Drawn(NamedTuple):
    """Pairs, and how many were left out because both texts are the same."""

    pairs: list[Pair]
    identical: int


def draw_pairs(completions: Iterable[Completion], pairs_per_prompt: int | None = None, seed: int = 0) -> Drawn:
    """All K·(K−1)/2 pairs of each prompt's K completions, or `pairs_per_prompt` of those whose texts differ."""
    by_prompt: dict[str, list[Completion]] = {}
    for completion in completions:
        by_prompt.setdefault(completion.prompt_id, []).append(completion)
    pairs: list[Pair] = []
    identical = 0
    for prompt_id, replies in by_prompt.items():
        possible = list(itertools.combinations(replies, 2))
        differing = [(a, b) for a, b in possible if a.text != b.text]
        identical += len(possible) - len(differing)
        pairs += _draw(differing, pairs_per_prompt, digest({"seed": seed, "prompt": prompt_id}))
    return Drawn(pairs, identical)


def _draw(pairs: list[Pair], count: int | None, seed: str) -> list[Pair]:
    """Some of the pairs, in their order."""
    if count is None or count >= len(pairs):
        return pairs
    return [pairs[index] for index in sorted(random.Random(seed).sample(range(len(pairs)), count))]
