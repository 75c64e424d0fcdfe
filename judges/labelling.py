"""The labelling engine: ask a judge for the verdicts that the store does not have yet, and stop when too many calls
fail.

One event loop, as many workers as the endpoint takes requests, no batch barrier. Questions come as a stream and are
made while others are answered; what is remembered of them is counts and failures, so that memory does not grow with
their number. A worker takes its next question once its last answer is on disk, so `kill -9` loses no verdict and pays
again for what was in flight. What the verdicts add up to is computed in `aggregate.py`. Left out: several endpoints,
retries and adaptive concurrency (`ratify/client.py`), several processes (`judge_processes.py`), prices.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from judges.commit_queue import CommitQueue
from judges.questions import Judge, Question, verdict_keys
from judges.reasks import ask
from judges.statistics import LabellingStatistics
from ratify.errors import BudgetError, SpendingError
from ratify.progress import Progress, Silent
from ratify.sections import PriceSection
from ratify.types import Failure, Verdict
from ratify.verdict_store import VerdictStore
from ratify.workers import run_workers

MIN_CALLS = 20
"""Fewer calls say too little about a judge to stop it."""
PATIENCE = 50
"""More failures than this are never waited for, however many calls are still to come."""
LOOKED_UP_AT_ONCE = 32
"""Questions that are made and looked up in one go: few enough that answers hardly wait for it, enough for one query."""


SHOWN_EVERY_S = 0.2
"""Seconds between two looks at the state of a pass."""


class Budget(Protocol):
    """Limits that a labelling pass must keep to: money, tokens, requests."""

    def reserve(self, question: Question) -> None:
        """Called before each question. Raises SpendingError when it could break a limit; nothing more is asked then,
        and what is in flight is waited for."""

    def settle(self, verdict: Verdict) -> None:
        """Called with each answer, failed ones too, once it is on disk: what was reserved for its key is now known."""


class Unlimited:
    """No limits."""

    def reserve(self, question: Question) -> None:
        """Allow it."""

    def settle(self, verdict: Verdict) -> None:
        """Forget it."""


@dataclass(frozen=True)
class Tally:
    """What is left of a labelling pass beside the verdicts in the store."""

    statistics: LabellingStatistics
    failures: dict[str, Failure] = field(default_factory=dict)
    """Why a verdict is missing, by key."""

    @classmethod
    def empty(cls) -> Tally:
        """Of a pass that asked nothing."""
        return cls(LabellingStatistics())


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
    budget: Budget | None = None,
    price: PriceSection | None = None,
) -> Collection:
    """`label_stream` for questions that are all there, with their verdicts in memory afterwards."""
    tally = await label_stream(
        questions.values(), judge, store,
        total=len(questions), failure_budget=failure_budget, progress=progress, budget=budget, price=price,
    )  # fmt: skip
    verdicts = store.get(verdict_keys(questions.values(), tally.failures))
    return Collection(verdicts, tally.failures, tally.statistics)


async def label_stream(
    questions: Iterable[Question],
    judge: Judge,
    store: VerdictStore,
    *,
    total: int,
    failure_budget: float,
    progress: Progress | None = None,
    budget: Budget | None = None,
    price: PriceSection | None = None,
) -> Tally:
    """Ask what is not stored, store every answer; verdicts are read from the store by key afterwards.

    Args:
        questions: Made while the pass runs. A key that comes twice is asked once.
        judge: Who answers.
        store: What is known already, and where answers go.
        total: How many questions there will be, for the failure budget and the display; an estimate will do.
        failure_budget: Largest share of verdicts that may fail.
        progress: Where the state of the pass is shown.
        budget: Limits that are checked before each request.
        price: What tokens cost, for the display.

    Raises:
        BudgetError: more than `failure_budget` of the verdicts failed, or, as a SpendingError, `budget` allows no
            further request.
        EndpointError: a fault that concerns every call.
        StoreError: an answer could not be stored.
    """
    run = _Run(
        questions, judge, store,
        total=total, failure_budget=failure_budget, progress=progress or Silent(), budget=budget or Unlimited(),
        price=price,
    )  # fmt: skip
    return await run.label()


class _Run:
    def __init__(
        self,
        questions: Iterable[Question],
        judge: Judge,
        store: VerdictStore,
        *,
        total: int,
        failure_budget: float,
        progress: Progress,
        budget: Budget,
        price: PriceSection | None,
    ) -> None:
        self._questions = iter(questions)
        self._judge = judge
        self._store = store
        self._total = total
        self._failure_budget = failure_budget
        self._budget = budget
        self._progress = progress
        self._price = price
        self._ready: deque[Question] = deque()
        self._open: set[str] = set()
        """Keys that are ready or in flight: not in the store, and not to be asked twice."""
        self._first_raw = ""
        self._statistics = LabellingStatistics()
        self._tally = Tally(self._statistics)
        self._in_flight = 0
        self._refused: SpendingError | None = None
        self._started = time.monotonic()
        self._shown = -math.inf

    async def label(self) -> Tally:
        statistics = self._statistics
        try:
            async with CommitQueue(self._store) as queue:
                await run_workers(self._judge.concurrency, lambda: self._worker(queue))
        finally:
            self._show()
        if self._refused is not None:
            raise self._refused
        if statistics.failed > self._failure_budget * statistics.needed:
            raise self._stopped(statistics.failed, statistics.needed, "verdicts")
        return self._tally

    async def _worker(self, queue: CommitQueue) -> None:
        while (question := await self._next()) is not None:
            if not self._affordable(question):
                return
            self._in_flight += 1
            verdict = await ask(self._judge, question, queue.put)
            self._in_flight -= 1
            self._budget.settle(verdict)
            self._open.remove(question.key)
            self._count(question, verdict)

    def _affordable(self, question: Question) -> bool:
        """A worker that may not ask leaves; the others' answers, which are paid for, are waited for and stored."""
        try:
            self._budget.reserve(question)
        except SpendingError as refused:
            self._refused = refused
            self._open.remove(question.key)
            return False
        return True

    async def _next(self) -> Question | None:
        """The next question without a verdict; None when there are no more."""
        while not self._ready:
            if not self._look_up():
                return None
            # Where all is stored, no request would ever let others run. Nothing is held meanwhile: every worker waits
            # here, and what each has just looked up would come to tens of thousands of questions.
            await asyncio.sleep(0)
        return self._ready.popleft()

    def _look_up(self) -> bool:
        """Make some questions and leave those that are stored; False when there are no more.

        A stored verdict below today's `min_coverage` failed, and asking again would not mend it.
        """
        made = list(itertools.islice(self._questions, LOOKED_UP_AT_ONCE))
        asked = {q.key: q for q in made if q.key not in self._open and q.key not in self._tally.failures}
        for key, verdict in self._store.get(asked).items():
            question = asked.pop(key)
            self._statistics.reused += 1
            if verdict.coverage is not None and verdict.coverage < self._judge.min_coverage:
                self._fail(question, verdict, Failure.LOW_COVERAGE)
        self._statistics.needed = self._statistics.reused + self._statistics.calls + len(self._open) + len(asked)
        self._open |= asked.keys()
        self._ready.extend(asked.values())
        self._show_now_and_then()
        return bool(made)

    def _count(self, question: Question, verdict: Verdict) -> None:
        self._statistics.count_call(verdict)
        if verdict.failure is not None:
            self._fail(question, verdict, verdict.failure)
            self._stop_if_hopeless()
        self._show_now_and_then()

    def _fail(self, question: Question, verdict: Verdict, failure: Failure) -> None:
        self._tally.failures.update(dict.fromkeys(question.verdict_keys, failure))
        self._statistics.failures[failure] += 1
        self._first_raw = self._first_raw or verdict.raw

    def _show_now_and_then(self) -> None:
        if time.monotonic() - self._shown >= SHOWN_EVERY_S:
            self._show()

    def _show(self) -> None:
        statistics = self._statistics
        self._shown = time.monotonic()
        statistics.seconds = self._shown - self._started
        note = statistics.note(self._in_flight, self._price)
        self._progress.update(statistics.done, max(self._total, statistics.needed), note)

    def _stop_if_hopeless(self) -> None:
        calls, failed = self._statistics.calls, self._statistics.failed
        if over_budget(calls, failed, self._failure_budget, max(self._total, self._statistics.needed)):
            raise self._stopped(failed, calls, "calls")

    def _stopped(self, failed: int, total: int, what: str) -> BudgetError:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self._statistics.failures.most_common())
        return BudgetError(
            f"judging stopped: {failed} of {total} {what} failed ({failed / total:.1%}; judge.failure_budget allows "
            f"{self._failure_budget:.1%}): {kinds}; the first one said: {self._first_raw!r}; the other verdicts are "
            "stored, so mend the judge and run the same command again"
        )


def over_budget(calls: int, failed: int, budget: float, needed: int) -> bool:
    """Whether failures so far are beyond what luck explains under a failure share of `budget`.

    From `MIN_CALLS` calls on: more than three standard errors above the budget, and already more than the budget allows
    for everything that is needed or more than `PATIENCE`. So a few lasting failures that are asked again stop nobody.
    """
    if calls < MIN_CALLS or failed <= min(budget * needed, PATIENCE):
        return False
    return failed > budget * calls + 3.0 * math.sqrt(calls * budget * (1.0 - budget))
