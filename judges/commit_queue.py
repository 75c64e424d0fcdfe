"""Group commit: verdicts that arrive close together share one transaction, and each caller waits until its own is on
disk.

A commit costs the disk and the processor about the same whatever it holds. So that a killed process pays again for
nothing but the requests that were in flight, an answer counts only once it is stored; so that this costs no
throughput, a commit takes all that has arrived since the last one began.

SQLite commits in about a millisecond, here in the event loop: handing it to a thread and back takes longer, since both
then wait for each other's turn at the interpreter. A server that stores is written to by one thread, so that answers
are read meanwhile, and commits begin a few milliseconds apart. An answer that comes alone is written at once.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor

from ratify.types import Verdict
from ratify.verdict_store import VerdictStore

APART_S = 0.005
"""From the beginning of one commit to the next: short beside a request, long beside a commit's own cost."""
MAX_BATCH = 2000
"""Calls of `put` that share one transaction."""
Waiting = tuple[tuple[Verdict, ...], asyncio.Future[None]]


class CommitQueue:
    """Use it as an async context manager; leaving it writes what is still queued."""

    def __init__(self, store: VerdictStore) -> None:
        self._store = store
        self._waiting: list[Waiting] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verdict-store")

    async def __aenter__(self) -> CommitQueue:
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._closing = True
        self._arrived.set()
        try:
            await asyncio.shield(self._writer)
        finally:
            self._thread.shutdown(wait=True)

    async def put(self, *verdicts: Verdict) -> None:
        """Return once the verdicts are on disk; those of one call share a transaction.

        Raises:
            StoreError: it could not be written.
        """
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((verdicts, stored))
        self._arrived.set()
        await stored

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        last = -math.inf
        while not (self._closing and not self._waiting):
            await self._arrived.wait()
            if not self._closing and not self._store.is_file:
                await asyncio.sleep(last + APART_S - loop.time())
            last = loop.time()
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            if not self._waiting and not self._closing:
                self._arrived.clear()
            if not batch:
                continue
            try:
                await self._append([verdict for several, _ in batch for verdict in several])
            except Exception as error:
                _settle(batch, error)
            else:
                _settle(batch, None)

    async def _append(self, verdicts: list[Verdict]) -> None:
        if self._store.is_file:
            self._store.append(verdicts)
        else:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.append, verdicts)


def _settle(batch: list[Waiting], error: Exception | None) -> None:
    """Tell those who still wait; a caller that was cancelled does not."""
    for _, stored in batch:
        if stored.done():
            continue
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)
