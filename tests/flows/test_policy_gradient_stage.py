"""Stage `policy_gradient`: PPO beside DPO, from the reward model that the same round has trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratify.canonical import file_digest

FAST = [
    "sampling.completions_per_prompt=2", "reward_model.epochs=1", "preference.epochs=1", "policy_gradient.enabled=true",
    "policy_gradient.epochs=1", "policy_gradient.batch_prompts=8", "prompts.train_limit=16",
    "policy_gradient.completions_per_prompt=2",
    "policy_gradient.max_tokens=8",
]  # fmt: skip


@pytest.mark.slow
def test_ppo_trains_beside_dpo_and_is_not_done_twice(
    ratify: Callable[..., Any], small_run: list[str], tmp_path: Path
) -> None:
    for command in ("generate", "label", "train"):
        said = ratify(command, *small_run, *FAST, "--no-prefect")
        assert said.code == 0, said.err
    assert "training a policy on its own samples" in said.out and "rollout batches, last reward" in said.out
    folder = tmp_path / "small" / "round-000"
    manifest = json.loads((folder / "policy_gradient" / "manifest.json").read_text())
    metrics = manifest["metrics"]
    assert metrics["policy_gradient/steps"] == 2 and metrics["policy_gradient/train/scored"] == 1.0
    weights = [folder / stage / "model" / "model.safetensors" for stage in ("policy", "policy_gradient")]
    assert file_digest(weights[0]) != file_digest(weights[1])
    assert "nothing was done" in ratify("train", *small_run, *FAST, "--no-prefect").out


def test_it_needs_a_reward(ratify: Callable[..., Any], small_run: list[str]) -> None:
    said = ratify("train", *small_run, *FAST, "reward_model.enabled=false", "--no-prefect")
    assert said.code == 2 and "name policy_gradient.rewards" in said.err
