"""An OpenAI-compatible server in the test's own event loop: answers, counts, and fails where it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

MODEL = "fake-policy"
Answer = str | int | dict[str, Any]


class FakeChatServer:
    """`answer` gets the request's body and returns a text, a choice's fields, or an HTTP status to fail with."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.base_url = ""
        self._answer = answer

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        answer = self._answer(body)
        if isinstance(answer, int):
            return web.json_response({"error": {"message": "the fake fails here"}}, status=answer)
        given = {"message": {"role": "assistant", "content": answer}} if isinstance(answer, str) else answer
        choice = {"index": 0, "finish_reason": "stop", **given}
        words = len((choice["message"]["content"] or "").split())
        usage = {"prompt_tokens": 7, "completion_tokens": words, "total_tokens": 7 + words}
        return web.json_response({
            "id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage,
        })  # fmt: skip

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0}]})


@asynccontextmanager
async def serving(answer: Callable[[dict[str, Any]], Answer]) -> AsyncIterator[FakeChatServer]:
    fake = FakeChatServer(answer)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", fake.chat)
    app.router.add_get("/v1/models", fake.models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield fake
    finally:
        await runner.cleanup()
