"""An OpenAI-compatible server in the test's own event loop whose every answer a test writes: text, tokens, fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from math import log
from typing import Any, NamedTuple

from aiohttp import web

from ratify.client import ChatClient
from ratify.sections import JudgeSection


class Says(NamedTuple):
    """One answer of the server."""

    text: str = ""
    first: dict[str, float] | None = None
    """Probabilities (not logs) of the first token; None gives no log-probabilities."""
    finish: str = "stop"
    status: int = 200
    message: str = "the script fails here"
    body: Any = None
    """Replaces the whole answer."""
    prompt_tokens: int = 100


Script = Callable[[dict[str, Any]], Says]


class ScriptedServer:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.base_url = ""

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        says = self.script(body)
        if says.status != 200:
            return web.json_response({"error": {"message": says.message}}, status=says.status)
        return web.json_response(says.body if says.body is not None else completion(says, body))


def completion(says: Says, body: dict[str, Any]) -> dict[str, Any]:
    first = sorted((says.first or {}).items(), key=lambda item: -item[1])
    text = says.text or (first[0][0] if first else "")
    logprobs = None
    if first and body.get("logprobs"):
        top = [{"token": token, "logprob": log(p)} for token, p in first[: body["top_logprobs"]]]
        logprobs = {"content": [{**top[0], "top_logprobs": top}]}
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": says.prompt_tokens, "completion_tokens": len(text.split()), "total_tokens": 0}
    choice = {"index": 0, "finish_reason": says.finish, "logprobs": logprobs, "message": message}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(script)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


def section(**changes: Any) -> JudgeSection:
    return JudgeSection(**({"model": "fake", "max_retries": 0, "timeout_s": 5.0} | changes))


def with_server(
    settings: JudgeSection, script: Script, work: Callable[[ChatClient, ScriptedServer], Coroutine[Any, Any, Any]]
) -> Any:
    """Run `work` with a client of a server that follows the script."""

    async def run() -> Any:
        async with scripted(script) as server, ChatClient(settings, server.base_url, settings.model) as client:
            return await work(client, server)

    return asyncio.run(run())
