"""Questions as they are needed: a few pairs are turned into questions, asked, and forgotten.

A hundred thousand pairs under sixteen principles are millions of questions; the engine needs the next few. Left out:
what the pairs' labels need, their keys (`questions.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from constitutions.schema import Principle
from judges.questions import Judge, Pair, Question, Questionnaire, write_questions
from ratify.types import Prompt

PAIRS_AT_ONCE = 8
"""Few enough that requests hardly wait while their questions are written."""


def stream_questions(
    prompts: Mapping[str, Prompt], pairs: Iterable[Pair], principles: Sequence[Principle], judge: Judge
) -> Iterator[Question]:
    """Every question about the pairs, made when it is asked for; pairs of one prompt must follow each other."""
    for sheet in stream_questionnaires(prompts, pairs, principles, judge):
        yield from sheet.questions.values()


def stream_questionnaires(
    prompts: Mapping[str, Prompt], pairs: Iterable[Pair], principles: Sequence[Principle], judge: Judge
) -> Iterator[Questionnaire]:
    """`write_questions` for all pairs of a few prompts at a time.

    A prompt's pairs stay together, because they share completions: no question is in two questionnaires, unless two
    prompts are word for word the same.
    """
    several: list[Pair] = []
    for _, of_prompt in itertools.groupby(pairs, key=lambda pair: pair[0].prompt_id):
        several += of_prompt
        if len(several) >= PAIRS_AT_ONCE:
            yield write_questions(prompts, several, principles, judge)
            several = []
    if several:
        yield write_questions(prompts, several, principles, judge)
