"""A fake OpenAI-compatible server in a process of its own: it waits, answers one token with twenty log-probabilities,
and counts.

    python -m bench.chat_server [--latency 0.2 | --log-normal 2.0 0.8] [--port 0]

It prints its address and serves until it is killed or its standard input ends, so that it never outlives who started
it. The n-th request after a reset waits the same in every run. `GET /counts` says what it was sent and how long it took
from the first request to the last answer and on the processor, `POST /reset` forgets it. Left out: models, faults
(`tests/judges/fake_server.py` misbehaves), streaming.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ratify.lineage import ROOT

ANSWERS = 64
"""Different answers; which one a request gets depends on nothing but its text."""

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class _Server:
    def __init__(self, latency_s: float, log_normal: tuple[float, float] | None) -> None:
        self._latency_s, self._log_normal = latency_s, log_normal
        self._answers = [_response(_answer(number)) for number in range(ANSWERS)]
        self._forget()

    def _forget(self) -> None:
        self._draw = random.Random(0)
        self._seen: Counter[bytes] = Counter()
        self._in_flight = self._most_in_flight = 0
        self._first_asked = self._last_answered = 0.0
        self._worked = time.process_time()

    def chat(self, body: bytes) -> tuple[bytes, float]:
        """The answer to a request that has come, and how many seconds it waits."""
        mark = hashlib.blake2b(body, digest_size=16).digest()
        self._first_asked = self._first_asked or time.monotonic()
        self._seen[mark] += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        return self._answers[mark[0] % ANSWERS], self._wait_s()

    def ended(self) -> None:
        """A request was answered, or nobody waits for it any more."""
        self._in_flight -= 1
        self._last_answered = time.monotonic()

    def tell(self, path: str) -> bytes:
        """The answer to what is no chat request."""
        if path == "/v1/models":
            return _response(json.dumps({"object": "list", "data": [{"id": "fake", "object": "model"}]}).encode())
        if path == "/reset":
            self._forget()
        found = {
            "requests": self._seen.total(), "distinct": len(self._seen), "most_in_flight": self._most_in_flight,
            "seconds": self._last_answered - self._first_asked, "cpu_seconds": time.process_time() - self._worked,
        }  # fmt: skip
        return _response(json.dumps(found).encode())

    def _wait_s(self) -> float:
        """Fixed, or log-normal of a given mean and sigma."""
        if self._log_normal is None:
            return self._latency_s
        mean, sigma = self._log_normal
        return self._draw.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as clients that keep connections and say how long a body is need it; answers lie ready as bytes,
    because on few cores a web framework would take the contenders' processor time."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._received = bytearray()
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end])
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < whole:
            return
        body, path = bytes(self._received[end + 4 : whole]), head.split(b" ", 2)[1].decode()
        del self._received[:whole]
        if path != "/v1/chat/completions":
            self._transport.write(self._server.tell(path))
            return
        answer, wait_s = self._server.chat(body)
        self._waiting = asyncio.get_running_loop().call_later(wait_s, self._answer, answer)

    def _answer(self, answer: bytes) -> None:
        self._waiting = None
        self._server.ended()
        self._transport.write(answer)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._server.ended()


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _answer(number: int) -> bytes:
    """A chat completion as vLLM sends it: "A" and "B" first, then eighteen tokens that mean nothing."""
    p = (number + 1) / (ANSWERS + 1)
    likely = {"A": 0.98 * p, "B": 0.98 * (1 - p)} | {f" token{rank}": 0.02 / 18 for rank in range(18)}
    ranked = sorted(likely.items(), key=lambda item: -item[1])
    top = [{"token": token, "logprob": math.log(value), "bytes": list(token.encode())} for token, value in ranked]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": ranked[0][0],
        "reasoning_content": None,
        "tool_calls": [],
    }
    choice = {"index": 0, "message": message, "logprobs": {"content": [{**top[0], "top_logprobs": top}]}}
    return json.dumps(
        {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 0, "model": "fake",
            "choices": [choice | {"finish_reason": "length", "stop_reason": None}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 1, "total_tokens": 201},
        }
    ).encode()  # fmt: skip


async def _serve(server: _Server, port: int) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", port, backlog=2048)
    print(json.dumps({"port": listening.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


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
