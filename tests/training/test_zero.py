"""DeepSpeed's ZeRO over two processes learns what one does, resumes, stops; skipped where it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.testing import assert_close

from ratify.errors import InputError, TrainingError
from ratify.sections import PreferenceSection
from tests.training.test_engine import read_steps, weights
from tests.training.test_processes import CONFIGS, dpo, in_two_processes, same_figures
from training.checkpoint import load_checkpoint
from training.devices import check_devices, read_accelerate_config
from training.engine import make_optimiser
from training.scorers import PolicyScorer


class Dies:
    """A job that a kill interrupts in both processes at the same micro-batch, and that goes on."""

    def __init__(self, model: Any, again: Any, **settings: Any) -> None:
        self.model, self.again, self.settings = model, again, settings

    def __call__(self, out: Path) -> nn.Module:
        with pytest.raises(KeyboardInterrupt):
            dpo(self.model, out, die_at=4, save_every_steps=1, **self.settings)
        AcceleratorState._reset_state()
        return dpo(self.again, out, save_every_steps=1, **self.settings)


class Breaks:
    """A job whose gradients become no numbers; the weights are those of the last good step."""

    def __init__(self, model: Any, **settings: Any) -> None:
        self.model, self.settings = model, settings

    def __call__(self, out: Path) -> nn.Module:
        with pytest.raises(TrainingError, match="the loss is .* in the batch of prompts"):
            dpo(self.model, out, learning_rate=1e30, **self.settings)
        return self.model  # type: ignore[no-any-return]


def test_zero_learns_what_one_process_does_and_resumes(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    """Clipped and not, several micro-batches; a killed run bit for bit; its checkpoint read by a single process."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is in no lock; docs/training.md says how to install it")
    files = {1: CONFIGS / "deepspeed.yaml", 2: tmp_path / "two.yaml"}
    files[2].write_text(files[1].read_text().replace("zero_stage: 1", "zero_stage: 2"))
    plain, clipped, stopped = {}, {"max_grad_norm": 0.05}, {"max_kl": 1e-6, "epochs": 2}
    alone = {}
    for name, settings in (("plain", plain), ("clipped", clipped), ("stopped", stopped)):
        alone[name] = weights(dpo(tiny_model(), tmp_path / "alone" / name, **settings))
        AcceleratorState._reset_state(reset_partial_state=True)
    work = {
        "plain-1": partial(dpo, tiny_model(), accelerate_config=files[1]),
        "plain-2": partial(dpo, tiny_model(), accelerate_config=files[2], tokens_per_micro_batch=60),
        "clipped-1": partial(dpo, tiny_model(), accelerate_config=files[1], **clipped),
        "resumed": Dies(tiny_model(), tiny_model(), accelerate_config=files[1]),
        "stopped-2": partial(dpo, tiny_model(), accelerate_config=files[2], **stopped),
        "broken": Breaks(tiny_model(), accelerate_config=files[1]),
    }
    found = in_two_processes(tmp_path / "both", work)
    broken = found.pop("broken")[0]
    assert max(step["step"] for step in read_steps(tmp_path / "both" / "broken")) == 1 and broken
    assert len(read_steps(tmp_path / "both" / "stopped-2")) < 8
    for name, (first, second) in found.items():
        kind = name.split("-")[0] if name != "resumed" else "plain"
        same_figures(tmp_path / "alone" / kind, tmp_path / "both" / name)
        for key, tensor in alone[kind].items():
            assert torch.equal(first[key], second[key]), (name, key)
            assert_close(first[key], tensor, rtol=1e-3, atol=2e-5)
    for key in alone["plain"]:
        assert torch.equal(found["resumed"][0][key], found["plain-1"][0][key]), key
    single = PolicyScorer(tiny_model())
    optimiser = make_optimiser(single, PreferenceSection())
    cursor = load_checkpoint(tmp_path / "both" / "plain-1" / "checkpoint", single, optimiser, "test")
    assert cursor is not None and cursor.step == 4
    assert all(torch.equal(p, found["plain-1"][0][name]) for name, p in single.model.named_parameters())


def test_other_stages_and_tasks_are_refused(tmp_path: Path) -> None:
    assert read_accelerate_config(CONFIGS / "deepspeed.yaml").zero_stage == 1
    path = tmp_path / "three.yaml"
    path.write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3}\n")
    with pytest.raises(InputError, match=r"zero_stage is 3; give 1 or 2.*fsdp2\.yaml"):
        check_devices("preference", PreferenceSection(accelerate_config=path))
    path.write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2, offload_optimizer_device: cpu}\n")
    with pytest.raises(InputError, match=r"offload_optimizer_device is set, which nothing here follows"):
        check_devices("preference", PreferenceSection(accelerate_config=path))
    with pytest.raises(InputError, match="has not been made to work with DeepSpeed"):
        check_devices("policy_gradient", PreferenceSection(accelerate_config=CONFIGS / "deepspeed.yaml"))
    if importlib.util.find_spec("deepspeed") is None:
        with pytest.raises(InputError, match="which is not installed: `DS_BUILD_OPS=0 pip install deepspeed==0"):
            check_devices("preference", PreferenceSection(accelerate_config=CONFIGS / "deepspeed.yaml"))
