"""Labelling against a server that spoils nearly a third of the requests: a verdict is true, or a typed failure."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from judges.labelling import Collection, collect_verdicts
from judges.model_judge import ModelJudge
from judges.questions import Question
from judges.readouts.first_token import YES_NO, read_first_token
from ratify.client import ChatClient
from ratify.sections import JudgeSection
from ratify.types import Message
from ratify.verdict_store import VerdictStore
from tests.judges.chaos_server import KINDS, ChaosServer, truth
from tests.judges.worlds import asked, constitution, many

RULES = constitution("id: p", "id: q", "id: r")
KEY = "sk-planted-4d1f88"


def label(server: ChaosServer, folder: Path, pairs: int, **changes: Any) -> tuple[dict[str, Question], Collection, Any]:
    settings = JudgeSection(
        **({"model": "fake", "protocol": "pairwise", "concurrency": 32, "timeout_s": 0.4, "total_timeout_s": 20.0,
            "api_key_env": "RATIFY_PLANTED_KEY"} | changes)
    )  # fmt: skip

    async def run() -> tuple[dict[str, Question], Collection, Any]:
        async with ChatClient(settings, server.url, "fake") as client:
            judge = ModelJudge(settings, client)
            questions = asked(judge, RULES, *many(pairs)).questions
            store = VerdictStore.in_folder(folder)
            try:
                return questions, await collect_verdicts(questions, judge, store, failure_budget=1.0), judge
            finally:
                store.close()

    return asyncio.run(run())


def wrong(questions: dict[str, Question], found: Collection, judge: Any) -> list[str]:
    """The verdicts that are not what the server knows to be true."""
    lies = []
    for key, verdict in found.verdicts.items():
        q = questions[key]
        text = judge.prompt.messages(q.principle, q.prompt, q.first, q.second)[-1].content
        if verdict.logit != pytest.approx(truth(text), abs=1e-9):
            lies.append(key)
    return lies


@pytest.mark.parametrize("retries", [4, 0])
def test_every_question_ends_as_a_true_verdict_or_a_typed_failure(
    retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("RATIFY_PLANTED_KEY", KEY)
    started = time.monotonic()
    with ChaosServer(seed=11) as server:
        questions, found, judge = label(server, tmp_path, 40, max_retries=retries)
    seconds = time.monotonic() - started
    failed = {str(kind): count for kind, count in found.statistics.failures.items()}
    print(json.dumps({"requests": server.requests, "spoiled": server.spoiled.total(), "verdicts": len(found.verdicts),
                      "failed": failed, "seconds": round(seconds, 1)}))  # fmt: skip
    assert len(found.verdicts) + len(found.failures) == len(questions) == 240
    assert not wrong(questions, found, judge)
    assert 0.2 * server.requests < server.spoiled.total() < 0.4 * server.requests
    assert len(found.verdicts) >= (220 if retries else 150)
    assert KEY not in caplog.text
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in stored


@pytest.mark.parametrize("kind", KINDS)
def test_each_way_of_going_wrong_ends_in_time_without_a_wrong_verdict(kind: str, tmp_path: Path) -> None:
    with ChaosServer(1.0, kinds=(kind,)) as server:
        questions, found, judge = label(server, tmp_path, 1, max_retries=0, timeout_s=0.2)
    assert len(found.verdicts) + len(found.failures) == len(questions) == 6
    assert not wrong(questions, found, judge)
    assert (len(found.verdicts) == 6) == (kind == "second answer")


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    async def run() -> list[float | None]:
        async with ChatClient(JudgeSection(model="fake", concurrency=1), server.url, "fake") as client:
            found = []
            for text in ("one?", "two?", "three?"):
                answer = await client.chat(
                    [Message(role="user", content=text)], max_tokens=1, temperature=0, top_logprobs=5
                )
                await asyncio.sleep(0.1)
                found.append(read_first_token(answer.first_token, YES_NO, 0.5).logit)
            return found

    with ChaosServer(1.0, kinds=("second answer",)) as server:
        server.late_s = 0.02
        assert asyncio.run(run()) == pytest.approx([truth(text) for text in ("one?", "two?", "three?")])
