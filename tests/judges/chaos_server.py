"""An OpenAI-compatible server that writes its bytes itself and spoils a share of the requests in many ways.

What happens to a request depends on the seed, the question and how often it was asked, not on the order of arrival. The
truth about every question is known: `truth(text)`. `python -m tests.judges.chaos_server` runs it as a process.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.judges.fake_server import by_hash, completion

HANG_S = 30.0
HUGE = 17 << 20
Write = Callable[[bytes], Awaitable[None]]


def truth(text: str) -> float:
    """The log-odds of the first answer that a true reading gives."""
    first, second = list(by_hash(text).values())[:2]
    return first - second


def lie(text: str, body: dict[str, Any]) -> dict[str, Any]:
    """An answer that says the opposite: nobody may believe it."""
    values = by_hash(text)
    (first, p), (second, q) = list(values.items())[:2]
    return completion({first: q, second: p, "Well": values["Well"]}, body)


def reply(body: bytes, status: str = "200 OK", kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def shaken(answer: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> bytes:
    """An answer of which `change` spoils a part."""
    change(answer)
    return reply(json.dumps(answer).encode())


HALVES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no choices": lambda answer: answer.pop("choices"),
    "empty choices": lambda answer: answer.update(choices=[]),
    "null choices": lambda answer: answer.update(choices=None),
    "no message": lambda answer: answer["choices"][0].pop("message"),
    "no finish reason": lambda answer: answer["choices"][0].pop("finish_reason"),
    "aborted": lambda answer: answer["choices"][0].update(finish_reason="abort"),
    "null logprobs": lambda answer: answer["choices"][0].update(logprobs=None),
    "empty logprobs": lambda answer: answer["choices"][0].update(logprobs={"content": []}),
    "logprobs of nothing": lambda answer: answer["choices"][0]["logprobs"]["content"][0].update(
        top_logprobs=[{"token": None, "logprob": -0.1}]
    ),
    "text for a number": lambda answer: answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0].update(
        logprob="likely"
    ),
    "not a number": lambda answer: answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0].update(
        logprob=float("nan")
    ),
    "positive log-probability": lambda answer: answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0].update(
        logprob=3.0
    ),
    "endless tokens": lambda answer: answer["usage"].update(prompt_tokens=10**400),
    "infinite tokens": lambda answer: answer["usage"].update(prompt_tokens=float("inf")),
    "negative tokens": lambda answer: answer["usage"].update(completion_tokens=-5),
    "a list of texts": lambda answer: answer["choices"][0]["message"].update(content=["Yes"]),
    "an error for an answer": lambda answer: (answer.clear(), answer.update(error={"message": "overloaded"})),
}
ERRORS = {
    "429": reply(b'{"error": {"message": "slow down"}}', "429 Too Many Requests", more="Retry-After: 0.05\r\n"),
    "429 without a time": reply(b"", "429 Too Many Requests"),
    "429 of the past": reply(
        b"{}", "429 Too Many Requests", more="Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n"
    ),
    "429 in words": reply(b"{}", "429 Too Many Requests", more="Retry-After: soon\r\n"),
    "500": reply(b'{"error": {"message": "CUDA error"}}', "500 Internal Server Error"),
    "502": reply(b"<html>Bad Gateway</html>", "502 Bad Gateway", "text/html"),
    "503": reply(b"<html>busy</html>", "503 Service Unavailable", "text/html", "Retry-After: 0.02\r\n"),
    "504": reply(b"", "504 Gateway Timeout"),
    "wrong type": reply(b"<html>Sign in to the wifi</html>", kind="text/html"),
    "empty": reply(b""),
    "null": reply(b"null"),
    "a number": reply(b"7"),
    "a list": reply(b"[]"),
    "latin": reply(b'{"id": "\xff\xfe"}'),
    "deep": reply(b"[" * 200_000),
    "not zipped": reply(b"plain", more="Content-Encoding: gzip\r\n"),
    "a bomb": reply(gzip.compress(bytes(64 << 20)), more="Content-Encoding: gzip\r\n"),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "wrong chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/json\r\n\r\nZZ\r\n{}\r\n",
}  # fmt: skip
WAYS = ("reset", "closed", "hang", "hang in the middle", "drip", "half", "truncated", "huge", "second answer", "key")
KINDS = (*HALVES, *ERRORS, *WAYS)


class ChaosServer:
    """Use it as a context manager. `spoiled` counts what was done, by kind."""

    def __init__(self, share: float = 0.3, seed: int = 0, *, kinds: tuple[str, ...] = KINDS, port: int = 0) -> None:
        self.share = share
        self.seed = seed
        self.kinds = kinds
        self.port = port
        self.sound = 0
        """So many requests are answered well before any is spoiled."""
        self.late_s = 0.0
        """How long after the true answer a second one comes."""
        self.requests = 0
        self.spoiled: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> ChaosServer:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main(ready))
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _main(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._converse, "127.0.0.1", self.port, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until one of the two ends it."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                if not await self._answer(head, body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False ends the connection."""
        if head.startswith("GET"):
            listed = b'{"object": "list", "data": [{"id": "fake"}]}'
            writer.write(reply(listed) if "/models" in head.split()[1] else reply(b"", "404 Not Found"))
            return True
        asked = json.loads(body)
        text = asked["messages"][-1]["content"]
        self.requests += 1
        self._asked[text] += 1
        draw = random.Random(f"{self.seed}/{self._asked[text]}/{text}")
        if self.requests <= self.sound or draw.random() >= self.share:
            writer.write(reply(json.dumps(completion(by_hash(text), asked)).encode()))
            await writer.drain()
            return True
        kind = draw.choice(self.kinds)
        self.spoiled[kind] += 1
        if kind in ERRORS:
            writer.write(ERRORS[kind])
            await writer.drain()
            return kind not in ("ssh", "endless header", "wrong chunks")
        if kind in HALVES:
            # What is wrong in it is wrong in the true answer; a reader that mends it by guessing shows itself.
            writer.write(shaken(completion(by_hash(text), asked), HALVES[kind]))
            return True
        return await getattr(self, f"_{kind.replace(' ', '_')}")(head, text, asked, writer)

    async def _reset(self, _head: str, _text: str, _asked: Any, writer: asyncio.StreamWriter) -> bool:
        writer.transport.abort()
        return False

    async def _closed(self, *_arguments: Any) -> bool:
        return False

    async def _hang(self, *_arguments: Any) -> bool:
        await asyncio.sleep(HANG_S)
        return False

    async def _hang_in_the_middle(self, _head: str, text: str, asked: Any, writer: asyncio.StreamWriter) -> bool:
        whole = reply(json.dumps(lie(text, asked)).encode())
        writer.write(whole[:-40])
        await asyncio.sleep(HANG_S)
        return False

    async def _drip(self, _head: str, text: str, asked: Any, writer: asyncio.StreamWriter) -> bool:
        for byte in reply(json.dumps(lie(text, asked)).encode()):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
        return False

    async def _half(self, _head: str, text: str, asked: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(reply(json.dumps(lie(text, asked)).encode())[:-40])
        await writer.drain()
        return False

    async def _truncated(self, _head: str, text: str, asked: Any, writer: asyncio.StreamWriter) -> bool:
        writer.write(reply(json.dumps(lie(text, asked)).encode()[:-40]))
        return True

    async def _huge(self, _head: str, text: str, asked: Any, writer: asyncio.StreamWriter) -> bool:
        padded = lie(text, asked)
        padded["padding"] = "x" * HUGE
        writer.write(reply(json.dumps(padded).encode()))
        await writer.drain()
        return True

    async def _second_answer(self, _head: str, text: str, asked: Any, writer: asyncio.StreamWriter) -> bool:
        """The true answer, and behind it a false one that nobody asked for, on a connection that stays open."""
        true, false = (
            reply(json.dumps(each).encode()) for each in (completion(by_hash(text), asked), lie(text, asked))
        )
        if self.late_s:
            writer.write(true)
            await asyncio.sleep(self.late_s)
            writer.write(false)
        else:
            writer.write(true + false)
        return True

    async def _key(self, head: str, _text: str, asked: Any, writer: asyncio.StreamWriter) -> bool:
        """An error that echoes the whole request, key and prompt."""
        echo = {"error": {"message": f"cannot serve {head} {json.dumps(asked)}"}}
        writer.write(reply(json.dumps(echo).encode(), "500 Internal Server Error"))
        return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with ChaosServer(arguments.share, arguments.seed) as server:
        print(json.dumps({"url": server.url}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
