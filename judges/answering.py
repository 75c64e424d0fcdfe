"""A process that asks a judge's model for another process: questions come on standard input, answers go to standard
output, one JSON line each.

It holds a client and an event loop and nothing else: what is asked, what is stored and when to stop is decided by the
process that started it (`judge_processes.py`). When its input ends, which is also what happens when that process is
killed, it drops what is in flight and ends; so it never outlives it. Keys are read from the environment and never
written.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from constitutions.schema import Principle
from judges.model_judge import ModelJudge
from judges.questions import Question
from ratify.client import ChatClient
from ratify.errors import EndpointError
from ratify.sections import JudgeSection
from ratify.types import Completion, Prompt, Record, Verdict

LONGEST_LINE = 2**26
"""Bytes: a conversation with two replies fits many times."""


class Opening(Record):
    """The first line: who is asked, and where."""

    section: JudgeSection
    base_url: str
    model: str
    model_hash: str


class Ready(Record):
    """The answer to it."""

    fingerprint: str
    """Of the judge as this process sees it."""


class Asked(Record):
    """A question. A principle is written out once, with the first question about it, and then named by its number."""

    number: int
    retry: int = 0
    """Attempts before this one."""
    key: str
    principle: int
    wording: Principle | None = None
    prompt: Prompt
    first: Completion
    second: Completion | None = None


class Answered(Record):
    """What came of question `number`."""

    number: int
    verdict: Verdict | None = None
    again: bool = False
    """A failure that another attempt may mend."""
    fault: str = ""
    """The sentence of an EndpointError, when there is no verdict."""


class _Answering:
    def __init__(self, judge: ModelJudge) -> None:
        self._judge = judge
        self._principles: dict[int, Principle] = {}
        self._busy: set[asyncio.Task[None]] = set()

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Answer until the input ends."""
        while line := await lines.readline():
            asked = Asked.model_validate_json(line)
            if asked.wording is not None:
                self._principles[asked.principle] = asked.wording
            task = asyncio.create_task(self._answer(asked))
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)

    async def _answer(self, asked: Asked) -> None:
        question = Question(asked.key, self._principles[asked.principle], asked.prompt, asked.first, asked.second)
        try:
            attempt = await self._judge.attempt(question, asked.retry)
            answered = Answered(number=asked.number, verdict=attempt.verdict, again=attempt.again)
        except EndpointError as error:
            answered = Answered(number=asked.number, fault=str(error))
        _say(answered)


def _say(record: Record) -> None:
    try:
        sys.stdout.write(record.model_dump_json() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads any more: our input ends as well
        os._exit(0)


async def _main() -> None:
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    opening = Opening.model_validate_json(await lines.readline())
    async with ChatClient(opening.section, opening.base_url, opening.model) as client:
        judge = ModelJudge(opening.section, client, model_hash=opening.model_hash)
        _say(Ready(fingerprint=judge.fingerprint))
        await _Answering(judge).serve(lines)
        # Whoever asked is gone or has enough: no answer in flight is waited for.
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the asking process ends us
    asyncio.run(_main())
