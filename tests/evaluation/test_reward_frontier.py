"""The frontier of reward and KL: means by hand, a made-up training whose truth is found again, a page that is safe."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from evaluation.frontier_page import render_frontier
from evaluation.intervals import EvidenceError, Resampling
from evaluation.reward_frontier import RewardFrontier, read_steps, reward_frontier
from ratify.files import write_records
from ratify.types import RolloutRecord

HOW = Resampling(draws=200)


def row(reward: float | None, log_ratio: float, prompt: str = "p", text: str = "") -> RolloutRecord:
    return RolloutRecord(prompt_id=prompt, text=text, reward=reward, log_ratio=log_ratio, tokens=3)


def hacked(seed: int = 0) -> RewardFrontier:
    """A proxy that rises with d for ever and a gold reward d·(1.2 − 0.6·log d), over 40 steps to d = 6."""
    rng = np.random.default_rng(seed)
    steps = []
    for distance in np.linspace(0, 6, 40):
        noise = rng.normal(0, 0.2, 64)
        steps.append([row(distance + more, distance**2, f"p{number}") for number, more in enumerate(noise)])
    gold = {round(float(d), 6): d * (1.2 - 0.6 * math.log(d)) if d > 0 else 0.0 for d in np.linspace(0, 6, 40)}
    return reward_frontier(
        "demo <b>", steps, proxy="reward (judge)", gold="truth",
        truth=lambda r: float(gold[round(math.sqrt(r.log_ratio), 6)]), how=HOW,
    )  # fmt: skip


def test_means_of_a_step_by_hand() -> None:
    steps = [
        [row(1.0, 0.2, "a", "yes"), row(3.0, 0.4, "b"), row(None, 0.6, "b")],
        [row(None, 9.0)],
        [row(2.0, 1.0, text="yes")],
    ]
    found = reward_frontier("t", steps, proxy="x", truth=lambda r: float(r.text == "yes"), how=HOW)
    assert [point.step for point in found.points] == [0, 2], "a step without a reward is no point"
    first = found.points[0]
    assert (first.proxy.value, first.kl.value) == (2.0, pytest.approx(0.4)) and first.gold
    assert first.gold.value == 0.5
    assert found.gold_curve is None and "a curve needs 5" in found.advice


def test_where_the_gold_reward_turns_is_found_and_the_proxy_does_not() -> None:
    found = hacked()
    assert found.gold_curve and found.proxy_curve
    peak = found.gold_curve.peak
    assert peak.state == "identified" and peak.distance
    assert peak.distance.value == pytest.approx(math.e, abs=0.05)
    assert found.proxy_curve.peak.state == "no_turn"
    assert found.advice.startswith("stop near a KL of 7.39")
    assert "from 0 to 0.75, at most 1.63 in step" in found.conclusion


def test_without_a_gold_reward_nothing_is_claimed() -> None:
    found = reward_frontier("t", [[row(1.0, 0.1)]], proxy="x", how=HOW)
    assert "nothing says whether the completions became better" in found.conclusion
    page = render_frontier(found)
    assert page.count('class="frontier"') == 1
    with pytest.raises(EvidenceError, match="no completion has a reward"):
        reward_frontier("t", [[row(None, 0.1)]], proxy="x", how=HOW)


def test_the_page_draws_both_rewards_and_asks_nobody() -> None:
    page = render_frontier(hacked())
    assert page.count('class="frontier"') == 2 and page.count("fitted") >= 2
    assert page.count("<circle") == 80
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert not re.search(r"<script|https?://|src=", page)


def test_kept_completions_are_read_in_the_order_of_steps(tmp_path: Path) -> None:
    for step in (10, 2):
        write_records(tmp_path / f"step-{step:06d}.jsonl", [row(float(step), 0.0)])
    assert [rows[0].reward for rows in read_steps(tmp_path)] == [2.0, 10.0]
    with pytest.raises(EvidenceError, match="keep_rollouts = true"):
        read_steps(tmp_path / "none")
