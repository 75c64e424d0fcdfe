"""`python tests/flows/fake_policy.py`: a policy behind an OpenAI-compatible server that answers by seed, as a process.

The same seed and prompt give the same reply, so that a killed run can be compared byte by byte with an unbroken one.
"""

import asyncio
import hashlib
import json
import sys

from aiohttp import web

MODEL = "fake-policy"
WORDS = ("thank", "you", "please", "the", "answer", "is", "stupid", "certainly", "glad", "blue", "and", "or", "maybe")


def reply(messages: list[dict[str, str]], seed: int) -> str:
    digest = hashlib.sha256(f"{messages[-1]['content']}\n{seed}".encode()).digest()
    length = 3 + digest[0] % 40
    return " ".join(WORDS[digest[1 + index % 30] % len(WORDS)] for index in range(length))


async def chat(request: web.Request) -> web.Response:
    body = await request.json()
    await asyncio.sleep(0.01)
    text = reply(body["messages"], body["seed"])
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": len(text.split()), "total_tokens": 9 + len(text.split())}
    return web.json_response(
        {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage}
    )


async def models(_request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0}]})


async def main() -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"base_url": f"http://127.0.0.1:{runner.addresses[0][1]}/v1"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
