"""One labelling pass by one contender, measured in a process of its own and printed as JSON.

    python -m bench.labelling_contenders NAME URL CALLS IN_FLIGHT [SHARE]

`aiohttp` posts bodies that were made before the clock starts and reads the JSON that comes back: the floor. `sdk` does
the same through the `openai` SDK on aiohttp. `ratify` starts from pairs: questions, keys, templates, requests, parsing,
budgets, and every answer on disk before it counts. One call is one principle about one pair in one shown order, so a
number of calls is half as many pairs. With SHARE each process may use that share of a processor core and no more.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import aiohttp

from bench.processor_share import shares
from constitutions.load import parse_constitution
from constitutions.schema import Constitution
from judges.judge_processes import JudgeProcesses
from judges.labelling import label_stream
from judges.model_judge import ModelJudge
from judges.question_stream import stream_questions
from judges.questions import Judge, Pair
from judges.rendering import JudgePrompt
from ratify.client import ChatClient
from ratify.sections import JudgeSection
from ratify.types import Completion, Message, Prompt
from ratify.verdict_store import VerdictStore

HEAD = "schema: constitution/v1\nid: bench\nversion: 1.0.0\nprinciples:\n"
WORDS = ["the", "a", "reply", "that", "is", "long", "enough", "to", "look", "like", "one", "with", "many", "words"]
REPLY_WORDS = 60


def rules(principles: int = 1) -> Constitution:
    """A constitution of so many principles."""
    lines = [f"  - {{id: p{number}, text: Prefer the reply that is fine {number}.}}\n" for number in range(principles)]
    return parse_constitution(HEAD + "".join(lines), Path("bench.yaml"))


class MadeUpPrompts(dict[str, Prompt]):
    """Prompts made when they are looked up, so that a long run holds none."""

    def __missing__(self, name: str) -> Prompt:
        return Prompt(id=name, messages=(Message(role="user", content=f"Please answer question {name} in full."),))


def made_up_pairs(count: int) -> Iterator[Pair]:
    """Pairs of replies of sixty words, one per prompt, made when they are asked for."""
    for number in range(count):
        yield _reply(number, "a"), _reply(number, "b")


def _reply(number: int, side: str) -> Completion:
    shift = number % len(WORDS)
    text = " ".join((WORDS[shift:] + WORDS[:shift]) * 5)[: REPLY_WORDS * 5] + f" {side}{number}"
    return Completion(
        id=f"{number}/{side}", prompt_id=str(number), text=text, finish_reason="stop", prompt_tokens=10,
        completion_tokens=REPLY_WORDS, seed=0,
    )  # fmt: skip


def section(in_flight: int, url: str) -> JudgeSection:
    """The judge's section for the fake server."""
    return JudgeSection(model="fake", base_url=f"{url}/v1", protocol="pairwise", concurrency=in_flight)


def _bodies(calls: int) -> list[dict[str, Any]]:
    """The requests that `ratify` makes, made beforehand."""
    judge, template = ModelJudge(section(1, "http://127.0.0.1"), model_hash="bench"), JudgePrompt("pairwise")
    fixed = {"model": "fake", "max_tokens": 1, "temperature": 0, "top_p": 1.0, "logprobs": True, "top_logprobs": 20}
    questions = stream_questions(MadeUpPrompts(), made_up_pairs(calls // 2), rules().active, judge)
    sent = (template.messages(q.principle, q.prompt, q.first, q.second) for q in questions)
    return [fixed | {"messages": [message.model_dump() for message in messages]} for messages in sent]


def write_requests(path: Path, calls: int) -> None:
    """Write the messages of so many requests, one JSON list per line, for contenders that know nothing of Ratify."""
    lines = [json.dumps(body["messages"]) for body in _bodies(calls)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


async def _crew(bodies: list[dict[str, Any]], in_flight: int, post: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
    waiting = iter(bodies)

    async def worker() -> None:
        for body in waiting:
            answer = await post(body)
            assert answer["choices"][0]["logprobs"]["content"]

    await asyncio.gather(*(worker() for _ in range(in_flight)))


async def bare_aiohttp(url: str, calls: int, in_flight: int) -> Callable[[], Awaitable[None]]:
    """The floor: what any client on asyncio has to do."""
    bodies = _bodies(calls)

    async def work() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

            async def post(body: dict[str, Any]) -> Any:
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    return await answer.json()

            await _crew(bodies, in_flight, post)

    return work


async def bare_sdk(url: str, calls: int, in_flight: int) -> Callable[[], Awaitable[None]]:
    """The ceiling of anything that goes through the SDK, by the shortest way through it that we know."""
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient

    bodies = _bodies(calls)
    limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)

    async def work() -> None:
        async with AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", http_client=DefaultAioHttpClient(limits=limits)
        ) as client:
            await _crew(bodies, in_flight, lambda body: client.post("/chat/completions", cast_to=object, body=body))

    return work


async def ratify(url: str, calls: int, in_flight: int) -> Callable[[], Awaitable[None]]:
    """Ours, everything included."""

    async def work() -> None:
        settings = section(in_flight, url)
        async with ChatClient(settings, f"{url}/v1", "fake") as client:
            await _label(ModelJudge(settings, client, model_hash="bench"), calls)

    return work


async def ratify2(url: str, calls: int, in_flight: int) -> Callable[[], Awaitable[None]]:
    """Ours with two processes that ask; they are started before the clock is."""
    settings = section(in_flight, url).model_copy(update={"processes": 2})
    judge = await JudgeProcesses(settings, f"{url}/v1", "fake", model_hash="bench").__aenter__()

    async def work() -> None:
        await _label(judge, calls)
        await judge.__aexit__()

    return work


async def _label(judge: Judge, calls: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = VerdictStore.in_folder(Path(folder))
        questions = stream_questions(MadeUpPrompts(), made_up_pairs(calls // 2), rules().active, judge)
        tally = await label_stream(questions, judge, store, failure_budget=0.0, total=calls)
        assert tally.statistics.calls == calls == store.count()
        store.close()


CONTENDERS = {"aiohttp": bare_aiohttp, "sdk": bare_sdk, "ratify": ratify, "ratify2": ratify2}


async def measure(name: str, url: str, calls: int, in_flight: int, share: float | None = None) -> dict[str, float]:
    """Seconds by the clock, processor seconds of this process and of those it started, and its peak memory in bytes.

    What was spent before the clock starts, on imports for the most part, is not counted.
    """
    work = await CONTENDERS[name](url, calls, in_flight)
    gc.collect()
    before = _seconds_of_children()
    with shares([os.getpid(), *_children()], share) if share else nullcontext():
        started, worked = time.perf_counter(), time.process_time()
        await work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "calls": calls, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak,
        "helpers_cpu_seconds": ended.ru_utime + ended.ru_stime - before,
    }  # fmt: skip


def _seconds_of_children() -> float:
    """Processor seconds so far of the processes that this one has started and that live."""
    lines = (Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2] for child in _children())
    return sum(sum(map(int, line.split()[11:13])) for line in lines) / os.sysconf("SC_CLK_TCK")


def _children() -> list[int]:
    return [*map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split())]


if __name__ == "__main__":
    which, where, amount, flights, *part = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(which, where, int(amount), int(flights), *map(float, part)))))
