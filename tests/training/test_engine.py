"""The engine: what a step computes depends on the data alone, and a killed run goes on bit for bit."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ratify.errors import StoreError, TrainingError
from ratify.sections import PreferenceSection
from training import batching, checkpoint
from training.batching import by_length, micro_batches, step_elements, steps_per_epoch
from training.data import Element, Pair
from training.engine import Engine, Fit, Terms
from training.preference import PreferenceObjective
from training.schedule import learning_rate_factor
from training.scorers import PolicyScorer
from training.tree import TokenBatch

MakeModel = Callable[..., Any]


def elements_with_pairs(count: int = 10) -> list[Element]:
    """Prompts with two or three completions and every pair of neighbours."""
    draw = random.Random(3)
    made = []
    for number in range(count):
        completions = tuple(
            tuple(draw.randrange(3, 264) for _ in range(draw.randint(1, 12))) for _ in range(2 + number % 2)
        )
        pairs = tuple(Pair(k, k + 1, 0.7 + 0.1 * k, None) for k in range(len(completions) - 1))
        made.append(Element(f"p{number}", tuple(draw.randrange(3, 264) for _ in range(2 + number)), completions, pairs))
    return made


class Interrupted(PreferenceObjective):
    """Dies like a killed process in the middle of a step."""

    die_at = 10**9
    calls = 0

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        self.calls += 1
        if self.calls == self.die_at:
            raise KeyboardInterrupt
        return super().terms(scorer, elements, batch)


def fit(model: Any, out: Path, die_at: int = 10**9, spoil: str = "", **settings: Any) -> Fit:
    """Train on the elements with a reference of −20 nats for each completion."""
    defaults = {"learning_rate": 1e-2, "epochs": 2, "batch_prompts": 4, "save_every_steps": 2, "beta": 1.0}
    section = PreferenceSection(**{**defaults, **settings})
    elements = elements_with_pairs()
    reference = [torch.full((len(e.completions),), math.nan if e.prompt_id == spoil else -20.0) for e in elements]
    objective = Interrupted(section, elements, reference)
    objective.die_at = die_at
    engine = Engine(section, seed=5, out=out, fingerprint="test")
    engine.layout = section.layout
    return engine.fit(PolicyScorer(model), elements, objective)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "settings", [{"tokens_per_micro_batch": 1}, {"tokens_per_micro_batch": 90}, {"layout": "padded"}]
)
def test_training_does_not_depend_on_micro_batches_or_layout(
    settings: dict[str, Any], tiny_model: MakeModel, tmp_path: Path
) -> None:
    """One step of plain gradient size: the first update of AdamW would hide gradients' scale, so compare norms too."""
    whole, cut = tiny_model(), tiny_model()
    fit(whole, tmp_path / "whole", epochs=1, batch_prompts=10, learning_rate=1e-4)
    fit(cut, tmp_path / "cut", epochs=1, batch_prompts=10, learning_rate=1e-4, **settings)
    one, other = (read_steps(tmp_path / name)[0] for name in ("whole", "cut"))
    for key in ("loss", "grad_norm", "accuracy", "margin", "kl", "chosen_logprob"):
        assert other[key] == pytest.approx(one[key], rel=1e-5), key
    for name, tensor in weights(whole).items():
        assert_close(weights(cut)[name], tensor, rtol=1e-4, atol=1e-6)


def read_steps(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def accumulated_gradients(model: Any, out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """The gradient that one optimiser step over all elements accumulates."""
    elements = elements_with_pairs()
    section = PreferenceSection(beta=1.0, **settings)
    objective = PreferenceObjective(section, elements, [torch.full((len(e.completions),), -20.0) for e in elements])
    engine = Engine(section, seed=0, out=out)
    engine.layout = section.layout
    engine.allow_recomputation(model)
    module = engine.accelerator.prepare(PolicyScorer(model))
    engine._accumulate(module, elements, objective, sum(map(objective.weight, elements)))
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "settings", [{"tokens_per_micro_batch": 1}, {"tokens_per_micro_batch": 90}, {"layout": "padded"}]
)
def test_gradient_does_not_depend_on_micro_batches_or_layout(
    settings: dict[str, Any], tiny_model: MakeModel, tmp_path: Path
) -> None:
    whole = accumulated_gradients(tiny_model(), tmp_path)
    for name, gradient in accumulated_gradients(tiny_model(), tmp_path, **settings).items():
        assert (gradient - whole[name]).norm() <= 1e-5 * whole[name].norm(), name


def test_gradient_does_not_depend_on_the_devices_cut(
    tiny_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One micro-batch as a GPU computes it, against many that hold no padding."""
    monkeypatch.setattr(batching, "CPU_CUT", batching.ACCELERATOR_CUT)
    whole = accumulated_gradients(tiny_model(), tmp_path)
    monkeypatch.setattr(batching, "CPU_CUT", batching.Cut(max_waste=0.0, min_tokens=1))
    for name, gradient in accumulated_gradients(tiny_model(), tmp_path).items():
        assert (gradient - whole[name]).norm() <= 1e-5 * whole[name].norm(), name


def kept_bytes(model: Any, out: Path, **settings: Any) -> tuple[dict[str, torch.Tensor], int]:
    """The accumulated gradient, and the bytes that autograd keeps for it in one micro-batch, weights apart."""
    kept = {}
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return accumulated_gradients(model, out, **settings), sum(kept.values())


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_gradient_checkpointing_keeps_less_and_changes_no_bit(
    layout: str, tiny_model: MakeModel, tmp_path: Path
) -> None:
    sizes = {"num_hidden_layers": 6}
    whole, full = kept_bytes(tiny_model(**sizes), tmp_path, layout=layout)
    model = tiny_model(**sizes)
    again, less = kept_bytes(model, tmp_path, layout=layout, gradient_checkpointing=True)
    assert less < 0.5 * full
    assert all(torch.equal(again[name], gradient) for name, gradient in whole.items())
    assert not model.training  # sampling with a key-value cache works in evaluation mode only


def test_gradient_checkpointing_trains_alike(tiny_model: MakeModel, tmp_path: Path) -> None:
    plain, saving = tiny_model(), tiny_model()
    fit(plain, tmp_path / "plain")
    fit(saving, tmp_path / "saving", gradient_checkpointing=True)
    assert [s["loss"] for s in read_steps(tmp_path / "plain")] == [s["loss"] for s in read_steps(tmp_path / "saving")]
    for name, tensor in weights(plain).items():
        assert torch.equal(weights(saving)[name], tensor), name


@pytest.mark.parametrize("die_at", [1, 4, 6])
def test_killed_run_resumes_bit_for_bit(die_at: int, tiny_model: MakeModel, tmp_path: Path) -> None:
    """Six steps of one micro-batch each; killed in step 1 (no checkpoint yet), 4 and 6."""
    straight, resumed = tiny_model(), tiny_model()
    fit(straight, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, tmp_path / "resumed", die_at=die_at)
    again = tiny_model()
    fit(again, tmp_path / "resumed")
    for name, tensor in weights(straight).items():
        assert torch.equal(weights(again)[name], tensor), name
    one, other = (read_steps(tmp_path / name) for name in ("straight", "resumed"))
    assert [step["loss"] for step in one] == [step["loss"] for step in other] and len(one) == 6


def test_finished_run_takes_no_further_step(tiny_model: MakeModel, tmp_path: Path) -> None:
    model = tiny_model()
    assert fit(model, tmp_path).tokens > 0
    before = weights(model)
    again = tiny_model()
    assert fit(again, tmp_path).tokens == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(again).items())


def test_checkpoint_of_another_task_is_refused(tiny_model: MakeModel, tmp_path: Path) -> None:
    fit(tiny_model(), tmp_path)
    engine = Engine(PreferenceSection(), seed=0, out=tmp_path, fingerprint="other")
    objective = PreferenceObjective(PreferenceSection(), [], [])
    with pytest.raises(TrainingError, match="belongs to another model"):
        engine.fit(PolicyScorer(tiny_model()), elements_with_pairs(), objective)


def test_full_disk_keeps_the_previous_checkpoint(
    tiny_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tiny_model(), tmp_path, epochs=1)
    kept = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StoreError, match="disk is full"):
        fit(tiny_model(), tmp_path, epochs=2)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == kept == ["step-00000003"]


def test_nan_stops_names_the_prompt_and_keeps_the_checkpoint(tiny_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is nan .* prompts p7; the last good checkpoint is kept"):
        fit(tiny_model(), tmp_path, spoil="p7", batch_prompts=1, save_every_steps=1)
    steps = read_steps(tmp_path)
    assert all(math.isfinite(step["loss"]) for step in steps)
    assert (tmp_path / "checkpoint" / f"step-{len(steps):08d}").is_dir() or not steps


def test_kl_limit_stops_before_the_update(tiny_model: MakeModel, tmp_path: Path) -> None:
    result = fit(tiny_model(), tmp_path, epochs=20, max_kl=1e-3)
    assert result.stopped is not None and "above max_kl = 0.001" in result.stopped
    assert result.steps == 3 < result.planned_steps  # the window holds four steps, the fourth is not taken


def test_schedule_by_hand() -> None:
    """Ten steps, two of warm-up: ½, 1, then eight that fall from 1 to ⅛, or along a cosine from 1."""

    def factors(schedule: Any) -> list[float]:
        return [learning_rate_factor(step, 10, 0.2, schedule) for step in range(10)]

    assert factors("constant") == [0.5] + [1.0] * 9
    assert factors("linear") == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    assert factors("cosine")[2] == 1.0 and factors("cosine")[6] == pytest.approx(0.5)
    assert learning_rate_factor(0, 1, 1.0, "linear") == 1.0


def test_every_epoch_shows_every_element_once() -> None:
    elements = elements_with_pairs()
    steps = steps_per_epoch(len(elements), 4)
    assert steps == 3
    for epoch in (0, 1):
        seen = [e for step in range(steps) for e in step_elements(elements, epoch * steps + step, 4, seed=0)]
        assert sorted(e.prompt_id for e in seen) == sorted(e.prompt_id for e in elements)
    assert step_elements(elements, 0, 4, seed=0) != step_elements(elements, 3, 4, seed=0)


def test_micro_batches_keep_the_budget_and_lose_nothing() -> None:
    elements = elements_with_pairs(30)
    order = by_length(elements, "padded")
    batches = micro_batches(elements, order, 120, "padded")
    assert sorted(index for batch in batches for index in batch) == list(range(30))
    for batch in batches:
        rows = sum(len(elements[i].completions) for i in batch)
        length = max(len(elements[i].prompt) + max(map(len, elements[i].completions)) for i in batch)
        assert rows * length <= 120 or len(batch) == 1


def test_padding_closes_a_micro_batch_only_above_the_least_size() -> None:
    """Rows of 200, 200, 190 and 100 tokens: 400 real; 3 × 200 would waste 1.7 %, 4 × 200 would waste 13.75 %."""
    elements = [Element(str(n), (5,) * (n - 1), ((6,),)) for n in (200, 200, 190, 100)]
    order = by_length(elements, "tree")

    def cut(max_waste: float, min_tokens: int) -> list[list[int]]:
        return micro_batches(elements, order, 8192, "tree", batching.Cut(max_waste, min_tokens))

    assert cut(0.05, 384) == [[0, 1, 2], [3]]
    assert cut(0.15, 384) == cut(0.05, 4096) == [[0, 1, 2, 3]]
    assert cut(0.01, 384) == [[0, 1], [2, 3]]  # 380 tokens are too few to close
    assert batching.cut_for("cpu").min_tokens == 384 and batching.cut_for("cuda").min_tokens == 4096


def test_bfloat16_trains(tiny_model: MakeModel, tmp_path: Path) -> None:
    model = tiny_model()
    assert fit(model, tmp_path, dtype="bfloat16").steps == 6
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    losses: list[Mapping[str, Any]] = read_steps(tmp_path)
    assert all(math.isfinite(step["loss"]) for step in losses)
