"""Judging while the policy still samples (`run.overlap`): the judge is asked about replies as their shards are written.

All that this leaves is verdicts in the store, keyed by what the judge saw. Stages, manifests and labels are as they are
without it: the label stage begins when sampling is finished, finds what was answered meanwhile, and asks the rest.
Whatever goes wrong here ends the head start and nothing else; the label stage meets the same fault and says so. Left
out: canaries, and of a panel all judges but the first, which the label stage asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from flows.context import RunContext
from flows.stages.judging import answering_judge, constitution_of, judge_shape, make_judge, money_spent
from flows.stages.pair_blocks import Sheets, blocks_of
from flows.stages.spending import judging_budget
from judges.labelling import label_stream
from judges.questions import Judge
from judges.statistics import LabellingStatistics
from ratify.errors import RatifyError
from ratify.prompt_file import PromptFile
from ratify.types import Completion
from ratify.verdict_store import VerdictStore

PREFIX = "generate.ahead"
"""Of the metric keys."""
CALLS = f"{PREFIX}/calls/count"


class HeadStart:
    """Takes shards of completions and has the judge asked about them, several at once where they come faster."""

    def __init__(self, context: RunContext, log_path: Path) -> None:
        self._context = context
        self._log_path = log_path
        self._prompts = PromptFile(context.config.prompts.train)
        self._shards: asyncio.Queue[Sequence[Completion] | None] = asyncio.Queue()
        self._total = LabellingStatistics()
        self.fault = ""
        """Why it ended early."""

    def take(self, completions: Sequence[Completion]) -> None:
        """A shard is on disk."""
        self._shards.put_nowait(completions)

    def end(self) -> None:
        """There are no more shards."""
        self._shards.put_nowait(None)

    def metrics(self) -> dict[str, Any]:
        """What was asked, by metric key."""
        figures = self._total.metrics() | money_spent(self._context, self._total)
        return {key.replace("label/", f"{PREFIX}/", 1): value for key, value in figures.items()}

    async def run(self) -> None:
        """Judge until the last shard; the judge's server starts when the first verdict is missing."""
        store = self._context.verdict_store()
        try:
            async with AsyncExitStack() as stack:
                judge: Judge | None = None
                while completions := await self._waiting():
                    sheets = self._sheets(completions)
                    if judge is None and store.lacks(question.key for question in sheets.all_questions()):
                        judge = await stack.enter_async_context(answering_judge(self._context, self._log_path))
                    if judge is not None:
                        await self._ask(sheets, judge, store)
        except RatifyError as error:
            self.fault = str(error)
        finally:
            store.close()

    async def _waiting(self) -> list[Completion]:
        """All shards that have come, waiting for one; empty after the last."""
        found: list[Completion] = []
        while not found or not self._shards.empty():
            shard = await self._shards.get()
            if shard is None:
                if found:
                    self.end()
                break
            found += shard
        return found

    def _sheets(self, completions: Sequence[Completion]) -> Sheets:
        context = self._context
        per_pair = context.config.labels.principles_per_pair or 0
        return Sheets(
            lambda: blocks_of(context, self._prompts, completions),
            constitution_of(context),
            make_judge(context),
            per_pair,
        )

    async def _ask(self, sheets: Sheets, judge: Judge, store: VerdictStore) -> None:
        section = self._context.config.judge
        with judging_budget(self._context, judge_shape(self._context)) as budget:
            tally = await label_stream(
                sheets.all_questions(), judge, store, total=sheets.questions,
                failure_budget=section.failure_budget, budget=budget,
            )  # fmt: skip
        self._total = self._total.plus(tally.statistics)


@asynccontextmanager
async def head_start(context: RunContext, log_path: Path) -> AsyncIterator[HeadStart]:
    """Judges beside what the context does; on leaving it, waits for what is asked. An error ends both."""
    started = HeadStart(context, log_path)
    judging = asyncio.create_task(started.run())
    try:
        yield started
        started.end()
        await judging
    finally:
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)


def overlaps(context: RunContext) -> bool:
    """Whether this run judges ahead: only a judge that is asked over the wire, live, gains by it."""
    judge = context.config.judge
    return context.config.run.overlap and judge.kind == "model" and not judge.batch
