"""Which principles speak about which pair: all of them, an ensemble of n, or one at random as in Constitutional AI
(Bai et al. 2022, arXiv 2212.08073, §4.1); and about which of these pairs a judge has to be asked.

First comes the scope, then the draw among the principles in scope, then the checks of those drawn.

The draw is weighted rendezvous hashing (Schindelhauer and Schomaker 2005): every principle i gets the score
−wᵢ / ln u with u in (0, 1) hashed from the pair and the principle's id, and the n highest scores are taken. One draw is
proportional to the weights, and an edit moves the fewest pairs: one more among sixteen takes 1/17 (5.9 %) and moves no
other, where an index into a list would move 94 %. The order of principles moves nothing. A rename keeps its draw when
the new principle names the old id in `was`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from constitutions.schema import Principle
from judges.aggregate import Bools, Outcomes
from judges.checked import decided_by_checks, precede
from judges.questions import Judge, Pair, in_scope
from ratify.types import Prompt


class Coverage(NamedTuple):
    """Who speaks about N pairs, of P principles."""

    asked: Bools
    """(N, P): the principle speaks about the pair."""
    decided: Outcomes
    """(N, P): 1 or −1 where its checks have decided for a or for b, else 0."""

    @property
    def open(self) -> Bools:
        """(N, P): a judge has to say."""
        left: Bools = self.asked & (self.decided == 0)
        return left


def cover(
    prompts: Mapping[str, Prompt], pairs: Sequence[Pair], principles: Sequence[Principle], judge: Judge,
    per_pair: int = 0,
) -> Coverage:  # fmt: skip
    """Who speaks about which pair; `prompts` is by id, `per_pair` 0 draws nobody and asks all."""
    return cover_scope(pairs, principles, in_scope(prompts, pairs, principles, judge), judge, per_pair)


def cover_scope(
    pairs: Sequence[Pair], principles: Sequence[Principle], scope: Bools, judge: Judge, per_pair: int = 0
) -> Coverage:
    """The same from a scope (N, P) that is known; of the judge only its kind matters."""
    asked = assigned(pairs, principles, scope, per_pair)
    decided = np.zeros(asked.shape, dtype=np.int8)
    for index, principle in enumerate(principles):
        if precede(principle, judge):
            decided[:, index] = decided_by_checks(pairs, principle, asked[:, index])
    return Coverage(asked, decided)


def assigned(pairs: Sequence[Pair], principles: Sequence[Principle], asked: Bools, per_pair: int) -> Bools:
    """(N, P): `asked`, less what is not drawn; `per_pair` 0 asks all principles.

    A principle that is measured only (`info`, weight 0) takes no part in the draw and is not asked.
    """
    if per_pair == 0:
        return asked
    scores = np.full(asked.shape, -np.inf)
    for row, pair in enumerate(pairs):
        name = pair_name(pair)
        for column in np.flatnonzero(asked[row]):
            if principles[column].decides:
                scores[row, column] = score(name, principles[column])
    ranks = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    drawn: Bools = (ranks < per_pair) & np.isfinite(scores)
    return drawn


def pair_name(pair: Pair) -> str:
    """What the draw knows a pair by; a change of side does not change it."""
    return "\n".join((pair[0].prompt_id, *sorted((pair[0].id, pair[1].id))))


def score(pair: str, principle: Principle) -> float:
    """−w / ln u(pair, id)."""
    seed = f"{pair}\n{principle.was or principle.id}".encode()
    u = (int.from_bytes(hashlib.sha256(seed).digest()[:8]) + 0.5) / 2.0**64
    return principle.weight / -math.log(min(u, 1.0 - 2.0**-53))
