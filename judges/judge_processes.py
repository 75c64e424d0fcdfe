"""A judge that has several processes do the asking, for more requests per second than one processor core can send.

To the engine it is a judge like any other: keys, the store, budgets and counts stay in one place, and one process
writes. Each question goes to the process with the fewest open ones. A process that dies stops the pass with a sentence;
what it had in flight is asked again by the next run. Left out: several machines.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import Self

from constitutions.schema import Principle
from judges.answering import LONGEST_LINE, Answered, Asked, Opening, Ready
from judges.model_judge import ModelJudge
from judges.questions import Question
from judges.reasks import Attempt, last_attempt
from ratify.errors import EndpointError, RatifyError
from ratify.lineage import ROOT
from ratify.sections import JudgeSection
from ratify.types import Completion, Prompt, Protocol, Record, Verdict

_UNSENT = {"first": {"token_ids"}, "second": {"token_ids"}}
"""A judge reads text."""
_GRACE_S = 5.0


class JudgeProcesses:
    """`section.processes` processes that answer for one judge. Use it as an async context manager."""

    def __init__(self, section: JudgeSection, base_url: str, model: str, *, model_hash: str) -> None:
        """The model is asked at `base_url`; `model_hash` as in `ModelJudge`."""
        self._judge = ModelJudge(section, model_hash=model_hash)
        share = -(-section.concurrency // section.processes)
        part = section.model_copy(update={"concurrency": share})
        opening = Opening(section=part, base_url=base_url, model=model, model_hash=model_hash)
        self._crew = [_Process(opening, self._judge.fingerprint) for _ in range(section.processes)]
        self.fingerprint = self._judge.fingerprint
        self.protocol: Protocol = self._judge.protocol
        self.concurrency = section.concurrency
        self.min_coverage = self._judge.min_coverage
        self.max_reasks = self._judge.max_reasks

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(process.start() for process in self._crew))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await asyncio.gather(*(process.stop() for process in self._crew))

    def abstains(self, principle: Principle) -> bool:
        """As the judge does."""
        return self._judge.abstains(principle)

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None, /) -> str:
        """SHA-256 of the judge and of what it is sent."""
        return self._judge.key(principle, prompt, first, second)

    async def answer(self, question: Question) -> Verdict:
        """Ask, and again where that may mend a failure. Raises as `attempt` does."""
        return await last_attempt(self, question)

    async def attempt(self, question: Question, retry: int) -> Attempt:
        """Have the least busy process ask once; `retry` counts the attempts before.

        Raises:
            EndpointError: the fault concerns every call.
            RatifyError: a process died.
        """
        return await min(self._crew, key=lambda process: process.open).attempt(question, retry)


class _Process:
    def __init__(self, opening: Opening, fingerprint: str) -> None:
        self._opening = opening
        self._fingerprint = fingerprint
        self._child: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._fault: RatifyError | None = None
        self._waiting: dict[int, asyncio.Future[Attempt]] = {}
        self._numbers = itertools.count()
        self._principles: dict[int, tuple[int, Principle]] = {}
        """By identity, which the second of each entry keeps alive: the number under which it was sent."""

    @property
    def open(self) -> int:
        """Questions without an answer."""
        return len(self._waiting)

    async def start(self) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "judges.answering", env=os.environ | {"PYTHONPATH": path}, limit=LONGEST_LINE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._send(self._opening)
        line = await self._output.readline()
        if not line:
            raise await self._died()
        if Ready.model_validate_json(line).fingerprint != self._fingerprint:
            raise RatifyError("a prompt template changed while labelling was being started; run the same command again")
        self._listener = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """End the child, whatever it does."""
        if self._listener is not None:
            self._listener.cancel()
        if self._child is None:
            return
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            await asyncio.wait_for(self._child.wait(), _GRACE_S)
        except TimeoutError:
            self._child.kill()
            await self._child.wait()

    async def attempt(self, question: Question, retry: int) -> Attempt:
        if self._fault is not None:
            raise self._fault
        number = next(self._numbers)
        answer: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send(self._asked(number, question, retry))
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    def _asked(self, number: int, question: Question, retry: int) -> Asked:
        known = self._principles.get(id(question.principle))
        index, _ = known or (len(self._principles), question.principle)
        self._principles[id(question.principle)] = index, question.principle
        return Asked(
            number=number, retry=retry, key=question.key,
            principle=index, wording=None if known else question.principle,
            prompt=question.prompt, first=question.first, second=question.second,
        )  # fmt: skip

    def _send(self, record: Record) -> None:
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(record.model_dump_json(exclude=_UNSENT).encode() + b"\n")

    async def _listen(self) -> None:
        """Hand answers to those who wait; when the child is gone, tell them."""
        while line := await self._output.readline():
            answered = Answered.model_validate_json(line)
            waiting = self._waiting.get(answered.number)
            if waiting is None or waiting.done():
                continue
            if answered.verdict is None:
                waiting.set_exception(EndpointError(answered.fault))
            else:
                waiting.set_result(Attempt(answered.verdict, answered.again))
        self._fault = await self._died()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self._fault)

    async def _died(self) -> RatifyError:
        assert self._child is not None
        status = await self._child.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return RatifyError(
            f"a labelling process {how}; every answered verdict is stored, so run the same command again "
            "(judge.processes = 1 uses this process alone)"
        )

    @property
    def _output(self) -> asyncio.StreamReader:
        assert self._child is not None and self._child.stdout is not None
        return self._child.stdout
