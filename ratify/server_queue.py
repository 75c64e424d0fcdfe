"""vLLM's own figures: it never refuses a request but lets it wait, and tells how many wait on `/metrics`.

While a server has requests of ours in flight, it is asked every few seconds; one that has no such page is asked once.
Left out: every other figure on that page.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, NamedTuple

from ratify.answers import CallFailed
from ratify.endpoints import Endpoint
from ratify.wire import exchange

if TYPE_CHECKING:
    import aiohttp

EVERY_S = 2.0
TIMEOUT_S = 5.0
_GAUGE = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^}\n]*\})? ([0-9.eE+]+)", re.MULTILINE)


class Queue(NamedTuple):
    """Requests inside a server, over all its engines."""

    running: int
    waiting: int


def read_queue(metrics: str) -> Queue | None:
    """The queue in a page of Prometheus metrics; None where vLLM's figures are not on it."""
    found = _GAUGE.findall(metrics)
    if {name for name, _ in found} != {"running", "waiting"}:
        return None
    totals = {kind: sum(float(value) for name, value in found if name == kind) for kind in ("running", "waiting")}
    return Queue(round(totals["running"]), round(totals["waiting"]))


async def watch_queue(session: aiohttp.ClientSession, endpoint: Endpoint) -> None:
    """Lower the server's limit while requests wait inside it; ends when it does not tell."""
    page = f"{endpoint.url.removesuffix('/v1')}/metrics"
    while True:
        await asyncio.sleep(EVERY_S)
        if not endpoint.in_flight:
            continue
        try:
            reply = await exchange(session, "GET", page, timeout_s=TIMEOUT_S)
        except CallFailed:
            continue
        queue = read_queue(reply.body.decode("utf-8", "replace")) if reply.status == 200 else None
        if queue is None:
            return
        endpoint.concurrency.queued(queue.running, queue.waiting)
