"""Answers the rewards of a training task while it runs in its child process: the judge's server, the verdict store and
the budget live here, the task asks over a Unix socket.

The socket lies in a temporary folder that only its user can open. The service runs in a thread of its own, begins once
the judge can answer, and ends with the context, judge's server included. A fault is told to the task, which stops with
its checkpoint kept, and is raised here in its own words. Left out: what is asked and what it means
(`reward_judging.py`).
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from ratify.errors import RatifyError, StoreError
from ratify.reward_questions import LONGEST_LINE, RewardAnswer, RewardRequest

Answering = Callable[[RewardRequest], Awaitable[list[float | None]]]
Working = Callable[[Answering], Awaitable[None]]
Serving = Callable[[Working], Awaitable[None]]
"""Makes what answers, hands it to its argument, and returns when that returns: an open server, a budget, a store."""


class RewardService:
    """One socket, open from `begin` to `end`."""

    def __init__(self, path: Path, serving: Serving) -> None:
        self.path = path
        self.fault: BaseException | None = None
        self._serving = serving
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._enough: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="reward-service", daemon=True)

    def begin(self) -> None:
        """Return once questions are answered.

        Raises:
            RatifyError: the judge cannot be started.
        """
        self._thread.start()
        self._ready.wait()
        self.raise_fault()

    def end(self) -> None:
        """Stop answering, end the judge's server, wait for both."""
        if self._loop is not None and self._enough is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._enough.set)
        self._thread.join()

    def raise_fault(self) -> None:
        """Raise what went wrong here, if anything did."""
        if self.fault is not None:
            raise self.fault

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # carried over to the thread that began the service
            self.fault = self.fault or error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._enough = asyncio.get_running_loop(), asyncio.Event()
        await self._serving(self._listen)

    async def _listen(self, answer: Answering) -> None:
        assert self._enough is not None, "the loop runs"
        lines: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None, "a connection is served by a task"
            lines.add(task)
            with suppress(ConnectionError, asyncio.CancelledError):
                await self._converse(answer, reader, writer)
            writer.close()
            lines.discard(task)

        server = await asyncio.start_unix_server(connected, path=self.path, limit=LONGEST_LINE)
        self._ready.set()
        try:
            await self._enough.wait()
        finally:
            server.close()
            # A question in flight when training was cancelled is not waited for; what was answered is stored.
            for line in list(lines):
                line.cancel()
            await asyncio.gather(*lines, return_exceptions=True)

    async def _converse(self, answer: Answering, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write((await self._answered(answer, line)).model_dump_json().encode() + b"\n")
            await writer.drain()

    async def _answered(self, answer: Answering, line: bytes) -> RewardAnswer:
        try:
            return RewardAnswer(values=tuple(await answer(RewardRequest.model_validate_json(line))))
        except RatifyError as error:
            self.fault = error
            return RewardAnswer(fault=str(error))
        except ValidationError as error:
            self.fault = StoreError(f"a training process asked something that is no question: {error}")
            return RewardAnswer(fault=str(self.fault))
        except Exception as error:  # the other side must not wait for ever
            self.fault = error
            return RewardAnswer(fault=f"{type(error).__name__}: {error}")


@contextmanager
def serving_rewards(serving: Serving) -> Iterator[RewardService]:
    """A service for as long as the context lives. A fault on this side is what is raised, not what the task made of it.

    Raises:
        RatifyError: the judge cannot be started, or what stopped it later.
    """
    with tempfile.TemporaryDirectory(prefix="ratify-") as folder:
        service = RewardService(Path(folder) / "rewards", serving)
        service.begin()
        try:
            yield service
        except RatifyError:
            service.raise_fault()
            raise
        finally:
            service.end()
