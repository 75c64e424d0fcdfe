"""A fake OpenAI-compatible server in a process of its own: it waits, answers one token with twenty log-probabilities,
and counts.

    python -m bench.chat_server [--latency 0.2 | --log-normal 2.0 0.8] [--port 0]

It prints its address and serves until it is killed or its standard input ends, so that it never outlives who started
it. The n-th request after a reset waits the same in every run. `GET /counts` says what it was sent and how long it took
from the first request to the last answer, `POST /reset` forgets it. Left out: models, faults
(`tests/judges/fake_server.py` misbehaves), streaming.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from ratify.lineage import ROOT

ANSWERS = 64
"""Different answers; which one a request gets depends on nothing but its text."""


class _Server:
    def __init__(self, latency_s: float, log_normal: tuple[float, float] | None) -> None:
        self._latency_s, self._log_normal = latency_s, log_normal
        self._answers = [_answer(number) for number in range(ANSWERS)]
        self._forget()

    def _forget(self) -> None:
        self._draw = random.Random(0)
        self._seen: Counter[bytes] = Counter()
        self._in_flight = self._most_in_flight = 0
        self._first_asked = self._last_answered = 0.0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/chat/completions":
            return await self._chat(request)
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})
        if request.path == "/reset":
            self._forget()
        return web.json_response(
            {
                "requests": self._seen.total(), "distinct": len(self._seen), "most_in_flight": self._most_in_flight,
                "seconds": self._last_answered - self._first_asked,
            }
        )  # fmt: skip

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        mark = hashlib.blake2b(await request.read(), digest_size=16).digest()
        self._first_asked = self._first_asked or time.monotonic()
        self._seen[mark] += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        try:
            await asyncio.sleep(self._wait_s())
        finally:
            self._in_flight -= 1
            self._last_answered = time.monotonic()
        return web.Response(body=self._answers[mark[0] % ANSWERS], content_type="application/json")

    def _wait_s(self) -> float:
        """Fixed, or log-normal of a given mean and sigma."""
        if self._log_normal is None:
            return self._latency_s
        mean, sigma = self._log_normal
        return self._draw.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)


def _answer(number: int) -> bytes:
    """A chat completion as vLLM sends it: "A" and "B" first, then eighteen tokens that mean nothing."""
    p = (number + 1) / (ANSWERS + 1)
    likely = {"A": 0.98 * p, "B": 0.98 * (1 - p)} | {f" token{rank}": 0.02 / 18 for rank in range(18)}
    ranked = sorted(likely.items(), key=lambda item: -item[1])
    top = [{"token": token, "logprob": math.log(value), "bytes": list(token.encode())} for token, value in ranked]
    message = {"role": "assistant", "content": ranked[0][0], "reasoning_content": None, "tool_calls": []}
    choice = {"index": 0, "message": message, "logprobs": {"content": [{**top[0], "top_logprobs": top}]}}
    return json.dumps(
        {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 0, "model": "fake",
            "choices": [choice | {"finish_reason": "length", "stop_reason": None}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 1, "total_tokens": 201},
        }
    ).encode()  # fmt: skip


async def _serve(server: _Server, port: int) -> None:
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Start a server with these arguments; its address without `/v1`."""
    command = [sys.executable, "-m", "bench.chat_server", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.kill()


def counts(url: str) -> dict[str, Any]:
    """What the server was sent since the last reset."""
    with urllib.request.urlopen(f"{url}/counts", timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def reset(url: str) -> None:
    """Forget what was sent, and draw the waits from the beginning."""
    urllib.request.urlopen(f"{url}/reset", data=b"", timeout=60).close()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that every request waits")
    parser.add_argument("--log-normal", type=float, nargs=2, metavar=("MEAN", "SIGMA"), help="or a wait with a tail")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    waits = tuple(arguments.log_normal) if arguments.log_normal else None
    asyncio.run(_serve(_Server(arguments.latency, waits), arguments.port))


if __name__ == "__main__":
    main()
