"""A crew of workers on one event loop: all take from the same work, and the first fault stops the others.

Left out: what the work is, retries, and how many workers a server can take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def run_workers(count: int, worker: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `count` workers until all are done; a fault or a cancellation ends every one before it is raised."""
    crew = [asyncio.create_task(worker()) for _ in range(count)]
    try:
        await asyncio.gather(*crew)
    finally:
        for member in crew:
            member.cancel()
        await asyncio.gather(*crew, return_exceptions=True)
