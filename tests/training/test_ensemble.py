"""Ensembles of reward models: members differ, disagreement is measured, and a policy gradient reads them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ratify.lora_section import LoraSection
from ratify.policy_gradient_section import PolicyGradientSection
from ratify.sections import RewardModelSection
from training.data import Element, Pair
from training.engine import Engine
from training.ensemble import disagreement
from training.metrics import read_metrics
from training.models import kind_of
from training.policy_gradient import train_policy_gradient
from training.result import ensemble_of, write_result
from training.reward_model import train_reward_model
from training.spec import PolicyGradientTask, RewardModelTask, fingerprint

Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]


def test_disagreement_by_hand() -> None:
    """Two members, one prompt with three completions and two pairs, one prompt with one pair.

    Differences of the first: 1, 1, −2; of the second: 3, −1, −4. Means 2, 0, −3, so the labels' order gets 1, ½, 0 of
    three pairs. Standard deviations 1, 1, 1. Only the second pair is ordered differently.
    """
    elements = [
        Element("a", (1,), ((1,), (2,), (3,)), (Pair(0, 1, 0.9, None), Pair(1, 2, 0.9, None))),
        Element("b", (1,), ((1,), (2,)), (Pair(0, 1, 0.9, None),)),
    ]
    first = [torch.tensor([2.0, 1.0, 0.0]), torch.tensor([0.0, 2.0])]
    second = [torch.tensor([3.0, 0.0, 1.0]), torch.tensor([-4.0, 0.0])]
    found = disagreement([first, second], elements)
    assert found == pytest.approx((0.5, 1.0, 1 / 3))
    alike = disagreement([first, first], elements)
    assert alike.spread == 0.0 == alike.split


@pytest.mark.parametrize("lora", [None, LoraSection(rank=4)])
def test_members_are_trained_apart_resumed_and_read_by_ppo(
    lora: LoraSection | None,
    policy_folder: Path,
    learnable_rows: Rows,
    write_rows: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    section = RewardModelSection(
        learning_rate=1e-2, epochs=2, batch_prompts=8, threads=1, validation_fraction=0.3, members=2, normalise=True,
        lora=lora, save_every_steps=2,
    )  # fmt: skip
    data = write_rows(learnable_rows(24))
    whole, killed = (
        RewardModelTask(data=data, out=tmp_path / name, model=str(policy_folder), section=section)
        for name in ("whole", "killed")
    )
    _, result = train_reward_model(whole, fingerprint(whole))
    assert result.members == ("model-1",)
    assert result.metrics["validation/accuracy"] > 0.7 and result.metrics["ensemble/accuracy"] > 0.7
    assert result.metrics["ensemble/spread"] > 0.01 and 0 <= result.metrics["ensemble/split"] < 0.5
    first, second = (load_file(whole.out / name / "model.safetensors") for name in ("model", "model-1"))
    assert first.keys() == second.keys() and not torch.equal(first["score.weight"], second["score.weight"])
    assert kind_of(str(whole.out / "model-1")) == "reward"
    assert (whole.out / "model-1-adapter").is_dir() == (lora is not None)

    update, calls = Engine.update, [0]

    def dying(self: Engine, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == result.metrics["steps"] + 4:
            raise KeyboardInterrupt
        return update(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Engine, "update", dying)
        train_reward_model(killed, "mark")
    engine, _ = train_reward_model(killed, "mark")
    for name, expected in (("model", first), ("model-1", second)):
        found = load_file(killed.out / name / "model.safetensors")
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    engine.finish()
    assert not list(killed.out.rglob("step-*"))

    write_result(whole.out, result)
    model = str(whole.out / "model")
    assert ensemble_of(model) == (model, f"{model}-1") and ensemble_of(str(policy_folder)) == (str(policy_folder),)
    prompts = write_rows([{"prompt": f"say {n}"} for n in range(2)], "prompts.jsonl")
    spec = PolicyGradientTask(
        data=prompts, out=tmp_path / "ppo", model=str(policy_folder), reward_model=model,
        section=PolicyGradientSection(batch_prompts=2, completions_per_prompt=2, max_tokens=4, threads=1, lora=lora,
                                      max_length=40, epochs_per_batch=1),
    )  # fmt: skip
    assert spec.model_paths == (str(policy_folder), model, f"{model}-1")
    train_policy_gradient(spec, "mark")
    line = read_metrics(spec.out / "metrics.jsonl")[-1]
    assert float(line["reward/reward_model_variance"]) > 0
    members = [float(line[f"reward/reward_model_{number}"]) for number in (0, 1)]
    assert float(line["reward/reward_model"]) == pytest.approx(sum(members) / 2, abs=1e-5)
