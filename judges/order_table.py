"""Both orders of very many pairs, gathered block by block as numbers: what the bias of a whole stage is measured on.

It holds 20 bytes per pair and 16 per view (a principle on a pair), where `two_orders` makes an object of each view, and
no more prompts than it takes to know a judge. Left out: whose family a reply is of and which reply is better, which a
stage does not know.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from judges.aggregate import Floats
from judges.bias import OrderColumns, TwoOrders, format_gap, length_gap, scores_of
from judges.questions import Pair, Questionnaire
from ratify.canonical import digest
from ratify.types import Verdict

MOST_PROMPTS = 5_000
"""A share among as many prompts is known to 1.4 points either way; more would only take memory and time."""


class OrderTable:
    """`two_orders` of questionnaires that follow each other; a prompt's pairs are in one of them."""

    def __init__(self, prompts: int = 0) -> None:
        """`prompts` is how many there will be; of more than `MOST_PROMPTS` about as many are drawn, by their ids."""
        self._share = MOST_PROMPTS / max(prompts, MOST_PROMPTS)
        self._prompts: list[np.ndarray[tuple[int], np.dtype[np.int32]]] = []
        self._covariates: list[Floats] = []
        """(n, 2) each: length, format."""
        self._scores: dict[str, list[tuple[int, Floats]]] = {}
        """By principle: the number of a questionnaire, and (n, 2) log-odds, NaN where a verdict is missing."""
        self._known = 0

    def add(self, sheet: Questionnaire, verdicts: Mapping[str, Verdict]) -> None:
        """Gather one questionnaire's views; `verdicts` by key."""
        drawn = [(pair, keys) for pair, keys in zip(sheet.pairs, sheet.keys, strict=True) if self._draws(pair)]
        number, size = len(self._prompts), len(drawn)
        names = {name: place for place, name in enumerate(dict.fromkeys(a.prompt_id for (a, _), _ in drawn))}
        self._prompts.append(np.array([self._known + names[a.prompt_id] for (a, _), _ in drawn], dtype=np.int32))
        self._known += len(names)
        gaps = [(length_gap(a.text, b.text), format_gap(a.text, b.text)) for (a, b), _ in drawn]
        self._covariates.append(np.array(gaps, dtype=np.float64).reshape(size, 2))
        found: dict[str, Floats] = {}
        for row, (_, keys) in enumerate(drawn):
            for principle, both in keys.items():
                scores = scores_of(both, verdicts)
                if scores is not None:
                    found.setdefault(principle, np.full((size, 2), np.nan))[row] = scores
        for principle, of_sheet in found.items():
            self._scores.setdefault(principle, []).append((number, of_sheet))

    def _draws(self, pair: Pair) -> bool:
        return self._share == 1.0 or int(digest(pair[0].prompt_id)[:13], 16) / 2.0**52 < self._share

    @property
    def principles(self) -> list[str]:
        """In the order in which they appeared."""
        return list(self._scores)

    def columns(self, principle: str) -> OrderColumns:
        """All pairs that were judged in both orders by a principle."""
        numbers, parts = zip(*self._scores[principle], strict=True)
        scores = np.concatenate(parts)
        seen = ~np.isnan(scores).any(axis=1)
        prompts = np.concatenate([self._prompts[number] for number in numbers])[seen]
        values = np.zeros((len(prompts), len(TwoOrders._fields) - 1))
        values[:, :2] = scores[seen]
        values[:, 2:4] = np.concatenate([self._covariates[number] for number in numbers])[seen]
        return OrderColumns(prompts.astype(np.int64), values)
