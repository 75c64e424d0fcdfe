"""The pairs of a round's candidates, some prompts at a time: what labelling goes through without holding it all.

A pass over the blocks reads prompts and candidates from their files again, so memory holds one block, and of all pairs
only who speaks about them. Left out: which pairs are drawn (`judges/pairs.py`) and what is asked about them
(`judges/questions.py`).
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from constitutions.schema import Constitution
from flows.context import RunContext
from judges.assignment import Coverage, cover
from judges.pairs import Drawn, draw_pairs
from judges.questions import Judge, Pair, Question, Questionnaire, Ranker, write_questions
from ratify.types import Completion, Prompt

PAIRS_AT_ONCE = 512
"""Enough that arrays pay, few enough that texts, questions and verdicts of a block take a few megabytes."""


class Block(NamedTuple):
    """All pairs of some prompts."""

    prompts: dict[str, Prompt]
    """By id."""
    pairs: list[Pair]
    identical: int
    """Pairs that were left out because both texts are the same."""


def blocks_of(context: RunContext, prompts: Mapping[str, Prompt], completions: Iterable[Completion]) -> Iterator[Block]:
    """The pairs of some completions, those of a prompt following each other; `prompts` is by id."""
    config = context.config
    several: dict[str, Prompt] = {}
    drawn = Drawn([], 0)
    for name, replies in itertools.groupby(completions, key=lambda each: each.prompt_id):
        found = draw_pairs(replies, config.labels.pairs_per_prompt, config.run.seed)
        several[name] = prompts[name]
        drawn = Drawn(drawn.pairs + found.pairs, drawn.identical + found.identical)
        if len(drawn.pairs) >= PAIRS_AT_ONCE:
            yield Block(several, *drawn)
            several, drawn = {}, Drawn([], 0)
    if several:
        yield Block(several, *drawn)


class Sheets:
    """The questionnaires about all blocks, written anew in each pass; who speaks about what is worked out once."""

    def __init__(
        self, blocks: Callable[[], Iterable[Block]], constitution: Constitution, judge: Judge, per_pair: int = 0
    ) -> None:
        """`per_pair` principles are drawn for each pair; 0 asks all that apply."""
        self._blocks = blocks
        self._principles = constitution.active
        self._judge = judge
        self.pairs = self.identical = self.questions = self.prompts = 0
        """Counts over all blocks; a question that two blocks ask counts twice."""
        self._coverages: list[bytes] = []
        for block in blocks():
            coverage = cover(block.prompts, block.pairs, self._principles, judge, per_pair)
            self._coverages.append(_packed(coverage))
            self.prompts += len(block.prompts)
            self.pairs += len(block.pairs)
            self.identical += block.identical
            self.questions += self._count(block.pairs, coverage)

    def __iter__(self) -> Iterator[tuple[Block, Coverage, Questionnaire]]:
        for block, packed in zip(self._blocks(), self._coverages, strict=True):
            coverage = _unpacked(packed, (len(block.pairs), len(self._principles)))
            sheet = write_questions(block.prompts, block.pairs, self._principles, self._judge, coverage.open)
            yield block, coverage, sheet

    def all_questions(self) -> Iterator[Question]:
        """The questions of all sheets."""
        for _, _, sheet in self:
            yield from sheet.questions.values()

    def _count(self, pairs: list[Pair], coverage: Coverage) -> int:
        if isinstance(self._judge, Ranker):
            rows, columns = coverage.open.nonzero()
            return 2 * len({(pairs[row][0].prompt_id, column) for row, column in zip(rows, columns, strict=True)})
        if self._judge.protocol == "pairwise":
            return 2 * int(coverage.open.sum())
        replies: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
        for (a, b), row in zip(pairs, coverage.open, strict=True):
            for each in (a, b):
                replies[each.id] = replies[each.id] | row if each.id in replies else row
        return sum(int(row.sum()) for row in replies.values())


def _packed(coverage: Coverage) -> bytes:
    """As a rule a few bytes a block, since most rows are alike."""
    return zlib.compress(np.stack([coverage.asked.view(np.int8), coverage.decided]).tobytes(), 1)


def _unpacked(packed: bytes, shape: tuple[int, int]) -> Coverage:
    asked, decided = np.frombuffer(zlib.decompress(packed), dtype=np.int8).reshape(2, *shape)
    return Coverage(asked.view(np.bool_), decided)
