"""One part of a round's questions, judged into the shared verdict store: how several processes or machines label.

Part i of n is the questions whose key, a SHA-256, falls there; every part works them out for itself, so nobody has to
hand them round. Parts take no lock and write nothing but verdicts: they can run at once, be killed and be repeated.
Once all are done, the stage `label` finds every verdict stored, asks nobody, and writes the same files as one process
would. The store is PostgreSQL, or on one machine SQLite. Left out: who starts the parts (`ray_parts.py`, Kubernetes,
Slurm, a shell), and limits on spending, which one purse cannot keep for several processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from flows.context import RunContext
from flows.stages.judging import ask, check_judge, constitution_of, make_judge
from flows.stages.label import training_blocks
from flows.stages.pair_blocks import Sheets
from judges.labelling import Tally
from judges.questions import Question
from ratify.errors import ConfigError

FOLDER = "parts"
"""Logs of the parts' servers, in the run's folder."""
_DIGITS = 15
"""Hexadecimal digits of a key that say which part it belongs to."""


def belongs(key: str, part: int, parts: int) -> bool:
    """Whether a question is one of this part's."""
    return int(key[:_DIGITS], 16) % parts == part


def check_parts(context: RunContext) -> None:
    """Look at what a round's parts need before one is begun.

    Raises:
        ConfigError: the configuration cannot be judged in parts.
        StoreError: the candidates are not there.
    """
    config = context.config
    if config.budget.limited or config.judge.batch or config.panel.judges:
        raise ConfigError(
            "labelling in parts keeps no [budget], sends no batch files and asks no panel; remove them, or label in "
            "one process with judge.processes"
        )
    context.manifest("generate")
    check_judge(context)


def judge_part(context: RunContext, part: int, parts: int) -> Tally:
    """Have one part of the training pairs judged; verdicts that are stored already are not asked for again.

    Args:
        context: The round; its stage `generate` must be finished.
        part: From 0 to `parts` - 1.
        parts: How many there are.

    Raises:
        ConfigError: there is no such part, or the configuration cannot be judged in parts.
        StoreError: the candidates are not there, or the store cannot be reached.
    """
    config = context.config
    if not 0 <= part < parts:
        raise ConfigError(f"there is no part {part} of {parts}; parts are counted from 0 to {parts - 1}")
    check_parts(context)
    per_pair = config.labels.principles_per_pair or 0
    sheets = Sheets(training_blocks(context), constitution_of(context), make_judge(context), per_pair)

    def mine() -> Iterator[Question]:
        return (question for question in sheets.all_questions() if belongs(question.key, part, parts))

    store = context.verdict_store()
    try:
        log = context.run.path / FOLDER / f"{part}-of-{parts}" / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return asyncio.run(ask(context, mine, max(1, sheets.questions // parts), store, log))
    finally:
        store.close()
