"""The weights that do best on held-out prompts are those that are saved, whatever comes after them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ratify.errors import StoreError
from ratify.sections import PreferenceSection, RewardModelSection, SupervisedSection
from training import best
from training.best import Best, Validation, best_of, keep_if_better, restore_best
from training.data import Element
from training.engine import Engine, Fit
from training.metrics import read_metrics
from training.preference import train_preference
from training.reward_model import train_reward_model
from training.scorers import PolicyScorer
from training.spec import PreferenceTask, RewardModelTask, SupervisedTask
from training.supervised import SupervisedObjective, train_supervised

Make = Callable[..., Any]
LOSS = Validation("loss", 2, lambda: 0.0, lower_is_better=True)


def offer(folder: Path, values: list[float], validation: Validation) -> nn.Linear:
    """Step n has weights n and the n-th value; steps count from 1."""
    model = nn.Linear(2, 1)
    for step, value in enumerate(values, start=1):
        nn.init.constant_(model.weight, step)
        keep_if_better(folder, validation, Best(step, value), model, "mark")
    return model


@pytest.mark.parametrize(
    ("values", "lower", "step"),
    [([0.5, 0.7, 0.7, 0.6], False, 2), ([0.5, 0.4, 0.4, 0.6], True, 2), ([math.nan, 0.1, math.nan], False, 2)],
)
def test_first_of_the_best_is_kept(values: list[float], lower: bool, step: int, tmp_path: Path) -> None:
    model = offer(tmp_path, values, LOSS._replace(lower_is_better=lower))
    assert restore_best(tmp_path, model, "mark") == Best(step, values[step - 1])
    assert torch.equal(model.weight, torch.full((1, 2), float(step)))


def test_weights_of_another_task_are_neither_taken_nor_compared_with(tmp_path: Path) -> None:
    model = offer(tmp_path, [0.9], LOSS)
    assert restore_best(tmp_path, model, "other") is None
    keep_if_better(tmp_path, LOSS, Best(1, 2.0), model, "other")
    assert best_of(tmp_path, "other") == Best(1, 2.0)


def test_measured_every_so_many_steps_and_at_the_last() -> None:
    assert [step for step in range(8) if LOSS.due(step, last=step == 7)] == [2, 4, 6, 7]


def test_full_disk_keeps_the_best_until_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, [0.9], LOSS)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(best, "save_file", full)
    with pytest.raises(StoreError, match="disk is full"):
        offer(tmp_path, [0.1], LOSS)
    assert best_of(tmp_path, "mark") == Best(1, 0.9)


def fit(model: Any, out: Path, figures: dict[int, float], die_after: int = 99) -> Fit:
    """Six steps; what the n-th of them measures is `figures[n]`."""
    elements = [Element(f"p{k}", (5, 6), ((8, 9, 10 + k),)) for k in range(6)]
    section = SupervisedSection(batch_prompts=2, epochs=2, learning_rate=1e-2, save_every_steps=3)
    engine = Engine(section, seed=0, out=out, fingerprint="mark")
    steps_done = [m["step"] for m in read_metrics(out / "metrics.jsonl") if "loss" in m and int(m["step"]) <= 3]
    seen = iter(range(len(steps_done) + 1, 99))

    def measure() -> float:
        step = next(seen)
        if step > die_after:
            raise KeyboardInterrupt
        return figures[step]

    return engine.fit(PolicyScorer(model), elements, SupervisedObjective(), Validation("accuracy", 1, measure))


def test_training_ends_with_the_best_weights_also_when_killed_and_resumed(tiny_model: Make, tmp_path: Path) -> None:
    """Step 4 is best; the process dies behind it while the newest checkpoint is that of step 3."""
    figures = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.9, 5: 0.5, 6: 0.4}
    straight, killed, resumed, last = (tiny_model() for _ in range(4))
    assert fit(straight, tmp_path / "a", figures).metrics()["validation/best_step"] == 4
    with pytest.raises(KeyboardInterrupt):
        fit(killed, tmp_path / "b", figures, die_after=4)
    assert fit(resumed, tmp_path / "b", figures).best == Best(4, 0.9)
    fit(last, tmp_path / "c", {**figures, 6: 1.0})
    for one, other, third in zip(straight.parameters(), resumed.parameters(), last.parameters(), strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, third) or one.norm() == 0


def test_result_reports_the_best_of_what_was_measured(
    policy_folder: Path, learnable_rows: Make, write_rows: Make, tmp_path: Path
) -> None:
    """At so high a rate figures move up and down; the saved model is measured again after training."""
    fast = {"learning_rate": 2e-2, "epochs": 2, "batch_prompts": 8, "threads": 1, "validate_every_steps": 2}
    pairs, files = write_rows(learnable_rows(30)), {"model": str(policy_folder)}
    reward = RewardModelTask(
        data=pairs, out=tmp_path / "rm", section=RewardModelSection(validation_fraction=0.2, **fast), **files
    )
    preference = PreferenceTask(
        data=pairs, out=tmp_path / "dpo", section=PreferenceSection(validation_fraction=0.2, **fast), **files
    )
    for spec, train in ((reward, train_reward_model), (preference, train_preference)):
        _, result = train(spec, "mark")  # type: ignore[arg-type]
        check_best(spec.out, "accuracy", result.metrics)
    rows = [{"prompt": f"say {n}", "completion": "xy" * (1 + n % 3)} for n in range(20)]
    supervised = SupervisedTask(
        data=write_rows(rows, "sft.jsonl"), out=tmp_path / "sft", section=SupervisedSection(**fast), **files
    )
    check_best(supervised.out, "loss", train_supervised(supervised, "mark")[1].metrics, sign=-1)


def check_best(out: Path, name: str, metrics: dict[str, float], sign: int = 1) -> None:
    lines = {int(m["step"]): sign * float(m[f"validation_{name}"])
             for m in read_metrics(out / "metrics.jsonl") if f"validation_{name}" in m}  # fmt: skip
    assert len(lines) >= 3
    assert sign * metrics[f"validation/{name}"] == pytest.approx(max(lines.values()), rel=1e-5)
    assert lines[int(metrics["validation/best_step"])] == max(lines.values())


def test_validating_needs_prompts_kept_aside() -> None:
    with pytest.raises(ValidationError, match="validation_fraction is 0, which keeps no prompts aside"):
        PreferenceSection(validate_every_steps=5)
