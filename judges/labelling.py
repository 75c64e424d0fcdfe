"""The labelling engine: ask a judge for the verdicts that the store does not have yet, and stop when too many calls
fail.

One event loop, as many workers as the endpoint takes requests, no batch barrier. A worker takes its next question
once its last answer is on disk, so `kill -9` loses no verdict and pays again for what was in flight. What the
verdicts add up to is computed in `labels.py`. Left out: several endpoints, adaptive concurrency, money.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from judges.commit_queue import CommitQueue
from judges.questions import Judge, Question
from judges.reasks import attempts
from judges.statistics import LabellingStatistics
from ratify.errors import BudgetError
from ratify.progress import Progress, Silent
from ratify.types import Failure, Verdict
from ratify.verdict_store import VerdictStore
from ratify.workers import run_workers

MIN_CALLS = 20
"""Fewer calls say too little about a judge to stop it."""
PATIENCE = 50
"""More failures than this are never waited for, however many calls are still to come."""


@dataclass(frozen=True)
class Collection:
    """The verdicts that were asked for, as far as there are any."""

    verdicts: dict[str, Verdict]
    failures: dict[str, Failure]
    """Why a verdict is missing, by key."""
    statistics: LabellingStatistics


async def collect_verdicts(
    questions: Mapping[str, Question],
    judge: Judge,
    store: VerdictStore,
    *,
    failure_budget: float,
    progress: Progress | None = None,
) -> Collection:
    """Read what is stored, ask the rest, store every answer.

    Raises:
        BudgetError: more than `failure_budget` (a share) of the verdicts failed.
        EndpointError: a fault that concerns every call.
        StoreError: an answer could not be stored.
    """
    run = _Run(questions, judge, store, failure_budget, progress or Silent())
    return await run.collect()


class _Run:
    def __init__(
        self,
        questions: Mapping[str, Question],
        judge: Judge,
        store: VerdictStore,
        failure_budget: float,
        progress: Progress,
    ) -> None:
        self._questions = questions
        self._judge = judge
        self._store = store
        self._budget = failure_budget
        self._progress = progress
        self._verdicts: dict[str, Verdict] = {}
        self._failures: dict[str, Failure] = {}
        self._first_raw = ""
        self._statistics = LabellingStatistics(needed=len(questions))
        self._started = time.monotonic()

    async def collect(self) -> Collection:
        self._reuse()
        missing = [question for key, question in self._questions.items() if key not in self._verdicts]
        asked = iter([question for question in missing if question.key not in self._failures])
        try:
            async with CommitQueue(self._store) as queue:
                await self._work(asked, queue)
        finally:
            self._statistics.seconds = time.monotonic() - self._started
        if self._statistics.failed > self._budget * len(self._questions):
            raise self._stopped(self._statistics.failed, len(self._questions), "verdicts")
        return Collection(self._verdicts, self._failures, self._statistics)

    def _reuse(self) -> None:
        """Take what is stored; one below today's `min_coverage` failed, and asking again would not mend it."""
        for key, verdict in self._store.get(self._questions).items():
            if verdict.coverage is not None and verdict.coverage < self._judge.min_coverage:
                self._failures[key] = Failure.LOW_COVERAGE
                self._statistics.failures[Failure.LOW_COVERAGE] += 1
                self._first_raw = self._first_raw or verdict.raw
            else:
                self._verdicts[key] = verdict
        self._statistics.reused = len(self._verdicts) + len(self._failures)

    async def _work(self, questions: Iterator[Question], queue: CommitQueue) -> None:
        """Run the workers; the first that fails stops the others."""
        count = min(self._judge.concurrency, len(self._questions) - self._statistics.reused)
        await run_workers(count, lambda: self._worker(questions, queue))

    async def _worker(self, questions: Iterator[Question], queue: CommitQueue) -> None:
        for question in questions:
            async for verdict in attempts(self._judge, question):
                await queue.put(verdict)
            self._count(verdict)

    def _count(self, verdict: Verdict) -> None:
        statistics = self._statistics
        statistics.count_call(verdict)
        if verdict.failure is None:
            self._verdicts[verdict.key] = verdict
        else:
            self._failures[verdict.key] = verdict.failure
            self._first_raw = self._first_raw or verdict.raw
            self._stop_if_hopeless()
        statistics.seconds = time.monotonic() - self._started
        note = f"{statistics.calls_per_s:.0f} calls/s" + (f", {statistics.failed} failed" if statistics.failed else "")
        self._progress.update(statistics.reused + statistics.calls, statistics.needed, note)

    def _stop_if_hopeless(self) -> None:
        calls, failed = self._statistics.calls, self._statistics.failed
        if over_budget(calls, failed, self._budget, len(self._questions)):
            raise self._stopped(failed, calls, "calls")

    def _stopped(self, failed: int, total: int, what: str) -> BudgetError:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self._statistics.failures.most_common())
        return BudgetError(
            f"judging stopped: {failed} of {total} {what} failed ({failed / total:.1%}; judge.failure_budget allows "
            f"{self._budget:.1%}): {kinds}; the first one said: {self._first_raw!r}; the other verdicts are stored, "
            "so mend the judge and run the same command again"
        )


def over_budget(calls: int, failed: int, budget: float, needed: int) -> bool:
    """Whether failures so far are beyond what luck explains under a failure share of `budget`.

    From `MIN_CALLS` calls on: more than three standard errors above the budget, and already more than the budget allows
    for everything that is needed or more than `PATIENCE`. So a few lasting failures that are asked again stop nobody.
    """
    if calls < MIN_CALLS or failed <= min(budget * needed, PATIENCE):
        return False
    return failed > budget * calls + 3.0 * math.sqrt(calls * budget * (1.0 - budget))
