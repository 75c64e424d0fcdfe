"""What the chat client costs beside a bare loop, and what it makes of a server that spoils a third of the requests.

    python -m bench.endpoints [--quick] [--json PATH]

A fake server in its own process answers after 0.2 s. In the same run: a bare aiohttp loop, the `openai` SDK on its
aiohttp transport without retries, and the product's client with everything that it does. Processor time is this
process's. The second table counts how the questions to a chaotic server ended, for one server and for two of which one
dies on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from ratify.client import CallFailed, ChatClient
from ratify.files import write_json
from ratify.lineage import ROOT
from ratify.sections import EndpointSection
from ratify.types import Message

LATENCY_S = 0.2
TEXT = "The reply is fine. Answer Yes or No. " * 40
Ask = Callable[[int], Awaitable[object]]


@contextmanager
def fake(module: str, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A fake server as a process: its address and the process."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout
        yield json.loads(child.stdout.readline())["url"], child
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


async def drive(ask: Ask, calls: int, in_flight: int) -> dict[str, float]:
    """Calls per second and processor milliseconds per call of `in_flight` workers."""
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:
            await ask(number)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    return {"calls_per_s": calls / seconds, "cpu_ms_per_call": 1000 * used / calls}


def body(number: int) -> dict[str, Any]:
    """The request that every loop sends."""
    return {
        "model": "fake", "messages": [{"role": "user", "content": f"{number} {TEXT}"}], "max_tokens": 1,
        "temperature": 0, "top_p": 1.0, "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip


@asynccontextmanager
async def bare_aiohttp(url: str, _in_flight: int) -> AsyncIterator[Ask]:
    """The ceiling: one session, one post, the JSON read."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(number: int) -> object:
            async with session.post(f"{url}/chat/completions", json=body(number)) as answer:
                return await answer.json()

        yield ask


@asynccontextmanager
async def bare_sdk(url: str, in_flight: int) -> AsyncIterator[Ask]:
    """The SDK's typed method on its aiohttp transport."""
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient

    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    http_client = DefaultAioHttpClient(limits=limits)
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=http_client) as sdk:

        async def ask(number: int) -> object:
            return await sdk.chat.completions.create(**body(number))

        yield ask


@asynccontextmanager
async def ours(url: str, in_flight: int) -> AsyncIterator[Ask]:
    """The product's client."""
    async with ChatClient(EndpointSection(model="fake", concurrency=in_flight), url, "fake") as client:

        async def ask(number: int) -> object:
            message = Message(role="user", content=f"{number} {TEXT}")
            return await client.chat([message], max_tokens=1, temperature=0, top_logprobs=20)

        yield ask


async def speed(url: str, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """One row per loop and number in flight: the medians over rounds in which the loops take turns."""
    loops = {"bare aiohttp": bare_aiohttp, "openai SDK on aiohttp": bare_sdk, "ratify": ours}
    rows = []
    for in_flight in (64, 256):
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in loops}
        for _ in range(rounds):
            for name, loop in loops.items():
                async with loop(url, in_flight) as ask:
                    await drive(ask, 2 * in_flight, in_flight)
                    seen[name].append(await drive(ask, int(seconds * in_flight / LATENCY_S), in_flight))
        for name, each in seen.items():
            figures = {key: median(one[key] for one in each) for key in each[0]}
            rows.append({"loop": name, "in_flight": in_flight, "ideal": in_flight / LATENCY_S, **figures})
    return rows


async def endings(urls: list[str], questions: int, dies: subprocess.Popen[str] | None = None) -> dict[str, Any]:
    """How questions to spoiling servers end; `dies` is killed after a third of them."""
    section = EndpointSection.model_validate(
        {"model": "fake", "base_url": urls, "concurrency": 32, "timeout_s": 0.5, "total_timeout_s": 20.0}
    )
    ends: Counter[str] = Counter()
    async with ChatClient(section, urls[0], "fake") as client:

        async def ask(number: int) -> None:
            if dies and number == questions // 3:
                dies.kill()
            try:
                answer = await client.chat(
                    [Message(role="user", content=f"Question {number}?")], max_tokens=1, temperature=0, top_logprobs=20
                )
                ends["attempts"] += answer.attempts
                ends["answered" if answer.first_token else "answered without log-probabilities"] += 1
            except CallFailed as failed:
                ends["attempts"] += failed.attempts
                ends[str(failed.failure)] += 1

        figures = await drive(ask, questions, 32)
    return {"servers": len(urls), "one_dies": bool(dies), "questions": questions, **ends, **figures}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    with fake("tests.judges.fake_server", "--latency", str(LATENCY_S)) as (url, _):
        rows = asyncio.run(speed(url, *((2.0, 1) if arguments.quick else (5.0, 5))))
    print(f"{'loop':24}{'in flight':>10}{'ideal/s':>10}{'calls/s':>10}{'CPU ms/call':>13}")
    for row in rows:
        print(f"{row['loop']:24}{row['in_flight']:>10}{row['ideal']:>10.0f}{row['calls_per_s']:>10.0f}"
              f"{row['cpu_ms_per_call']:>13.2f}")  # fmt: skip
    questions = 300 if arguments.quick else 1500
    chaos = "tests.judges.chaos_server"
    with fake(chaos) as (one, _), fake(chaos, "--seed", "1") as (other, child):
        ended = [asyncio.run(endings([one], questions)), asyncio.run(endings([one, other], questions, child))]
    for row in ended:
        print(json.dumps(row))
    if arguments.json:
        write_json(arguments.json, {"speed": rows, "chaos": ended})


if __name__ == "__main__":
    main()
