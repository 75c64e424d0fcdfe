"""A small OpenAI-compatible server in a thread of its own: counts requests, answers one token, misbehaves when told to.

`python tests/judges/fake_server.py --latency 0.2` runs it as a process and prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp import web

Answer = Callable[[str], dict[str, float] | None]
"""Log-probabilities of the first tokens for a user message; None gives an answer without log-probabilities."""

PROBE = "Is water wet? Answer Yes or No."
"""What `judges/capabilities.py` asks."""


def by_hash(text: str) -> dict[str, float]:
    """A judge whose log-odds depend on nothing but the text it is sent."""
    letters = re.findall(r"^Reply ([A-P]):$", text, re.MULTILINE)
    if len(letters) > 2:
        digests = [hashlib.sha256(f"{letter} {text}".encode()).digest() for letter in letters]
        return {letter: math.log(0.98 * (each[0] + 1) / sum(one[0] + 1 for one in digests))
                for letter, each in zip(letters, digests, strict=True)}  # fmt: skip
    p = (int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) + 1) / (2**32 + 2)
    first, second = ("A", " B") if "Reply A:" in text else ("Yes", " No")
    return {first: math.log(0.98 * p), second: math.log(0.98 * (1 - p)), "Well": math.log(0.02)}


class FakeServer:
    """Use it as a context manager; `texts` are the user messages it was sent, in order."""

    def __init__(self, answer: Answer = by_hash, *, latency_s: float = 0.0, port: int = 0) -> None:
        self.answer = answer
        self.latency_s = latency_s
        self.port = port
        self.texts: list[str] = []
        self.bodies: deque[dict[str, Any]] = deque(maxlen=10)
        """The last requests."""
        self.probes = 0
        """Requests that only find out what the server can do; they are not among `texts`."""
        self.answered = 0
        self.in_flight = self.most_in_flight = 0
        self.faults: list[str] = []
        """What happens to the next requests, first to last; then all is well."""
        self.always: str | None = None
        """What happens to every request."""
        self.respond: list[tuple[int, Any, dict[str, str]]] = []
        """Status, body and headers of the next answers."""
        self.headers: dict[str, str] = {}
        """Sent with every good answer."""
        self.room: int | None = None
        """Requests at once above which it answers 429."""
        self.metrics: str | None = None
        """What `/metrics` shows."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> int:
        return len(self.texts)

    @property
    def judged(self) -> int:
        """Requests that show a reply to be judged; the look at what a server can do shows none."""
        return sum("Reply" in text for text in self.texts)

    def __enter__(self) -> FakeServer:
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
        self._loop.close()

    async def _main(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        app = web.Application()
        self.add_routes(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        ready.set()
        await self._stop.wait()
        await runner.cleanup()

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.metrics or "", status=404 if self.metrics is None else 200)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self.always:
            return await self._misbehave(request, self.always)
        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body["messages"][-1]["content"]
        if body["messages"][0]["content"] == PROBE:
            self.probes += 1
            return await self._misbehave(request, self.always) if self.always else self._completed(text, body)
        self.texts.append(text)
        self.bodies.append(body)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.room is not None and self.in_flight > self.room:
                return web.json_response({}, status=429)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            fault = self.always or (self.faults.pop(0) if self.faults else None)
            if fault:
                return await self._misbehave(request, fault)
            if self.respond:
                status, content, headers = self.respond.pop(0)
                return web.json_response(content, status=status, headers=headers)
            self.answered += 1
            return self._completed(text, body)
        finally:
            self.in_flight -= 1

    def _completed(self, text: str, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion(self.answer(text), body), headers=self.headers)

    async def _misbehave(self, request: web.Request, fault: str) -> web.StreamResponse:
        if fault.isdigit():
            headers = {"retry-after-ms": "20"} if fault in ("429", "503") else {}
            error = {"error": {"message": f"fault {fault}", "type": "fault"}}
            return web.json_response(error, status=int(fault), headers=headers)
        if fault == "html":
            return web.Response(text="<html><body>nginx says hello</body></html>", content_type="text/html")
        if fault == "truncated":
            return web.Response(text='{"id": "x", "choices": [{"ind', content_type="application/json")
        if fault == "latin":
            return web.Response(body=b'{"id": "\xff\xfe"}', content_type="application/json")
        if fault == "wrong-shape":
            return web.json_response({"choices": {"message": 1}})
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I will not judge this."}
            return web.json_response({"choices": [{"finish_reason": "stop", "message": message}]})
        if fault == "context":
            error = {"error": {"message": "This model's maximum context length is 10 tokens."}}
            return web.json_response(error, status=400)
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "half":
            response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(b'{"id": "x"')
        assert request.transport is not None
        request.transport.close()
        return web.Response()


def completion(first: dict[str, float] | None, body: dict[str, Any]) -> dict[str, Any]:
    """A chat completion as a server sends it."""
    text = max(first, key=lambda token: first[token]) if first else "Hm"
    logprobs = None
    if first is not None and body.get("logprobs"):
        kept = sorted(first.items(), key=lambda item: -item[1])[: body["top_logprobs"]]
        top = [{"token": token, "logprob": value, "bytes": None} for token, value in kept]
        logprobs = {"content": [{**top[0], "top_logprobs": top}]}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "fake",
        "choices": [
            {
                "index": 0,
                "finish_reason": "length",
                "logprobs": logprobs,
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with FakeServer(latency_s=arguments.latency, port=arguments.port) as server:
        print(json.dumps({"url": server.url}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
