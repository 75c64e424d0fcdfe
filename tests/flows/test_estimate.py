"""What labelling will take: bounds before sampling, counted calls after, money by the price, time only where known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.judges.fake_server import FakeServer

RUN = Callable[..., Any]
PRICE = ("judge.price.prompt_per_million=1000", "judge.price.completion_per_million=2000")


@pytest.fixture
def priced(small_run: list[str]) -> list[str]:
    plain = [argument for argument in small_run if argument != "judge.kind=rules"]
    return [*plain, "prompts.train_limit=6", *PRICE]


def estimate(ratify: RUN, arguments: list[str], *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ratify("estimate", *arguments, *more, "--json").out)
    return found


def test_before_sampling_calls_are_bounded_and_the_rest_is_said_to_be_unknown(ratify: RUN, priced: list[str]) -> None:
    """6 prompts x 4 replies x 5 principles, pointwise; pairwise 6 pairs of 4 x 2 orders x 5 principles; ranking 2."""
    found = estimate(ratify, priced)
    assert found["calls"] == 120 and not found["counted"] and found["tokens"] is found["minutes"] is None
    assert estimate(ratify, priced, "judge.protocol=pairwise")["calls"] == 360
    assert estimate(ratify, priced, "judge.protocol=ranking")["calls"] == 60
    assert estimate(ratify, priced, "judge.protocol=pairwise", "labels.pairs_per_prompt=1")["calls"] == 60
    assert estimate(ratify, priced, "labels.pairs_per_prompt=1")["calls"] == 60
    assert estimate(ratify, priced, "gold.canaries=3")["calls"] == 120 + 3 * 2 * 5
    said = ratify("estimate", *priced)
    assert "at most 120" in said.out and "time:        unknown" in said.out


def test_after_labelling_the_next_estimate_counts_calls_and_knows_tokens_and_money(
    ratify: RUN, priced: list[str], tmp_path: Path
) -> None:
    assert ratify("generate", *priced, "--no-prefect").code == 0
    with FakeServer() as server:
        arguments = [*priced, f"judge.base_url={server.url}", "judge.model=fake"]
        before = estimate(ratify, arguments)
        assert before["counted"] and before["stored"] == 0 and before["most_money"] > 0
        said = ratify("label", *arguments, "--no-prefect")
        assert f"judge calls: {before['calls']:,}" in said.out and server.judged == before["calls"]
        done = estimate(ratify, arguments)
        assert done["calls"] == 0 and done["stored"] == before["calls"]
        more = estimate(ratify, arguments, "gold.canaries=10")
    assert more["calls"] > 0
    assert more["tokens"] == {"requests": more["calls"], "prompt_tokens": 100 * more["calls"],
                              "completion_tokens": more["calls"]}  # fmt: skip
    assert more["money"] == pytest.approx(more["calls"] * (100 * 1000 + 2000) / 1e6)
    assert more["minutes"]["value"] > 0 and more["minutes"]["low"] is None and more["source"].startswith("stage label")
    assert more["most_money"] > more["money"]
