"""Sampling against a fake server: seeds, order, shards that survive, failures that are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from generation.sampling import Sampled, completion_seed, sample_completions
from ratify.client import ChatClient
from ratify.errors import EndpointError, StoreError
from ratify.sections import EndpointSection, SamplingSection
from ratify.types import Message, Prompt
from tests.generation.fake_chat_server import MODEL, FakeChatServer, serving

SECTION = SamplingSection(completions_per_prompt=3, temperature=0.7, top_p=0.9, max_tokens=16, shard_size=2)
PROMPTS = [Prompt(id=f"p{i}", messages=(Message(role="user", content=f"question {i}"),)) for i in range(5)]

Answer = Callable[[dict[str, Any]], str | int]


def echo(body: dict[str, Any]) -> str:
    return f"{body['messages'][-1]['content']} seed {body['seed']}"


def sample(folder: Path, answer: Answer, prompts: list[Prompt] = PROMPTS) -> tuple[Sampled, FakeChatServer]:
    async def run() -> tuple[Sampled, FakeChatServer]:
        endpoint = EndpointSection(model=MODEL, max_retries=0)
        async with serving(answer) as fake, ChatClient(endpoint, fake.base_url, MODEL) as client:
            result = await sample_completions(
                prompts, client, SECTION, folder=folder, policy_name="policy", seed=11, concurrency=4
            )
            return result, fake

    return asyncio.run(run())


def test_seed_is_a_pure_function_of_run_prompt_and_index() -> None:
    seeds = {completion_seed(run, prompt, index) for run in (0, 1) for prompt in ("a", "b") for index in (0, 1)}
    assert len(seeds) == 8
    assert completion_seed(0, "a", 0) == completion_seed(0, "a", 0)
    assert all(0 <= seed < 2**31 for seed in seeds)
    # The separator keeps ("1", 1) apart from ("11", ...).
    assert completion_seed(0, "1", 11) != completion_seed(0, "11", 1)


def test_completions_come_in_the_order_of_prompts_with_their_seeds(tmp_path: Path) -> None:
    result, fake = sample(tmp_path, echo)
    assert [item.id for item in result.completions] == [f"p{i}/policy/{k}" for i in range(5) for k in range(3)]
    for item in result.completions:
        index = int(item.id[-1])
        assert item.seed == completion_seed(11, item.prompt_id, index)
        assert item.text == f"question {item.prompt_id[1:]} seed {item.seed}"
    request = fake.requests[0]
    assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0.7, 0.9, 16)
    assert result.metrics["generation/completions/count"] == 15
    assert result.metrics["generation/tokens/count"] == 15 * 4
    assert result.metrics["generation/length/mean"] == 4
    assert result.metrics["generation/finish/stop"] == 1


def test_every_turn_of_a_conversation_is_sent(tmp_path: Path) -> None:
    turns = (
        Message(role="system", content="be brief"), Message(role="user", content="hello"),
        Message(role="assistant", content="hi"), Message(role="user", content="and now?"),
    )  # fmt: skip
    _, fake = sample(tmp_path, echo, [Prompt(id="m", messages=turns)])
    assert fake.requests[0]["messages"] == [turn.model_dump() for turn in turns]


def test_existing_shards_are_read_and_only_missing_ones_sampled(tmp_path: Path) -> None:
    first, _ = sample(tmp_path, echo)
    kept = (tmp_path / "completions-00000.jsonl").read_bytes()
    (tmp_path / "completions-00001.jsonl").unlink()
    again, fake = sample(tmp_path, echo)
    assert again.completions == first.completions
    assert {body["messages"][0]["content"] for body in fake.requests} == {"question 2", "question 3"}
    assert (tmp_path / "completions-00000.jsonl").read_bytes() == kept
    _, idle = sample(tmp_path, echo)
    assert idle.requests == []


def test_a_stop_in_the_middle_keeps_whole_shards_and_no_half_ones(tmp_path: Path) -> None:
    def refuse_late(body: dict[str, Any]) -> str | int:
        return 401 if body["messages"][0]["content"] == "question 3" else echo(body)

    with pytest.raises(EndpointError, match="key"):
        sample(tmp_path, refuse_late)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["completions-00000.jsonl"]
    result, fake = sample(tmp_path, echo)
    assert len(result.completions) == 15
    assert len(fake.requests) == 9


def test_shards_of_other_prompts_are_refused(tmp_path: Path) -> None:
    sample(tmp_path, echo)
    with pytest.raises(StoreError, match=r"completions-00000\.jsonl holds completions of other prompts"):
        sample(tmp_path, echo, PROMPTS[::-1])


def test_too_many_failures_stop_and_leave_their_shards_to_be_sampled_again(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="1 of 15 requests .* failed, more than 2%.*HTTP 500"):
        sample(tmp_path, lambda body: 500 if "question 4" in body["messages"][0]["content"] else echo(body))
    result, _ = sample(tmp_path, echo)
    assert len(result.completions) == 15
    assert result.failures == []


def test_a_few_failures_are_kept_with_their_text_and_not_sampled_again(tmp_path: Path) -> None:
    many = [Prompt(id=f"q{i}", messages=(Message(role="user", content=f"question {i}"),)) for i in range(20)]
    bad = completion_seed(11, "q7", 1)
    result, _ = sample(tmp_path, lambda body: 500 if body["seed"] == bad else echo(body), many)
    assert len(result.completions) == 59
    assert [(item.prompt_id, item.index, str(item.failure)) for item in result.failures] == [
        ("q7", 1, "transport_error")
    ]
    assert "the fake fails here" in result.failures[0].raw
    assert result.metrics["generation/completions/failed"] == 1
    again, fake = sample(tmp_path, echo, many)
    assert again.failures == result.failures
    assert again.completions == result.completions
    assert fake.requests == []


def test_sampled_tokens_are_asked_for_only_where_the_server_gives_them(tmp_path: Path) -> None:
    async def run(token_ids: bool) -> dict[str, Any]:
        endpoint = EndpointSection(model=MODEL, max_retries=0)
        async with serving(echo) as fake, ChatClient(endpoint, fake.base_url, MODEL) as client:
            await sample_completions(
                PROMPTS[:1],
                client,
                SECTION,
                folder=tmp_path / str(token_ids),
                policy_name="p",
                seed=1,
                token_ids=token_ids,
            )
            return fake.requests[0]

    assert asyncio.run(run(True))["return_token_ids"] is True
    assert "return_token_ids" not in asyncio.run(run(False))
