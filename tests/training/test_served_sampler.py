"""What a server's completions may lack, and whose weights are waited for."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from ratify.errors import EndpointError, EngineError
from training.served_sampler import DESK, Served, ServedSampler, answer, read_completions, version_folder


def choice(**changes: Any) -> dict[str, Any]:
    whole = {"index": 0, "finish_reason": "stop", "token_ids": [5, 2], "logprobs": {"token_logprobs": [-1.0, -0.5]}}
    return {**whole, **changes}


def body(*choices: dict[str, Any]) -> bytes:
    return json.dumps({"choices": choices}).encode()


def test_completions_come_in_the_order_of_their_index() -> None:
    cut = choice(index=1, finish_reason="length", token_ids=[7], logprobs={"token_logprobs": [-2.0]})
    found = read_completions(body(cut, choice()), 2)
    assert [(each.tokens, each.logprobs, each.finish_reason) for each in found] == [
        ((5, 2), (-1.0, -0.5), "stop"),
        ((7,), (-2.0,), "length"),
    ]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"token_ids": None}, "lack choices.0.token_ids"),
        ({"logprobs": None}, "lack choices.0.logprobs"),
        ({"token_ids": [5]}, "1 tokens and 2 log-probabilities"),
        ({"token_ids": [], "logprobs": {"token_logprobs": []}}, "0 tokens"),
        ({"finish_reason": "abort"}, "gave a completion up"),
        ({}, "gave 1 completions where 2"),
    ],
)
def test_half_an_answer_is_none(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EndpointError, match=complaint):
        read_completions(body(choice(**changes)), 2)


def test_without_anybody_who_serves_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="set sampler = 'transformers'"):
        ServedSampler(tmp_path, None, (2,), max_tokens=4)


def test_each_refresh_hands_over_a_version_and_waits_for_its_answer(tmp_path: Path) -> None:
    """The first is served, the second refused with the other side's reason."""
    (tmp_path / DESK).write_text("{}")
    written: list[Path] = []

    def write(folder: Path) -> None:
        written.append(folder)
        number = len(written)
        said = Served(base_url="http://127.0.0.1:9/v1", model="m") if number == 1 else Served(fault="no memory")
        threading.Thread(target=answer, args=(tmp_path, number, said)).start()

    sampler = ServedSampler(tmp_path, write, (2,), max_tokens=4)
    sampler.refresh()
    with pytest.raises(EngineError, match="no rollouts from vLLM: no memory"):
        sampler.refresh()
    assert written == [version_folder(tmp_path, 1), version_folder(tmp_path, 2)]
