"""Two processes over gloo learn what one does: every task, with a copy of the weights each and in shards."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.testing import assert_close

from ratify.errors import InputError
from ratify.lora_section import LoraSection
from ratify.policy_gradient_section import PolicyGradientSection
from ratify.sections import PreferenceSection, RewardModelSection, SupervisedSection
from tests.training.rollout_models import make_loop
from tests.training.test_engine import elements_with_pairs, fit, read_steps, weights
from training.adapters import adapted
from training.checkpoint import load_checkpoint
from training.devices import check_devices, launcher, read_accelerate_config
from training.engine import Engine, make_optimiser
from training.reward_model import RewardObjective
from training.rollouts import PromptItem, Sampled
from training.scorers import PolicyScorer, RewardScorer
from training.supervised import SupervisedObjective

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "accelerate"
FSDP = CONFIGS / "fsdp2.yaml"
Job = Callable[[Path], nn.Module]
"""Trains under a folder and returns what it trained."""


class FixedSampler:
    """Completions that depend on the prompt alone, so that any number of processes has the same ones."""

    def refresh(self) -> None: ...

    def sample(self, items: Sequence[PromptItem], completions: int, seed: int) -> list[tuple[Sampled, ...]]:
        return [
            tuple(
                Sampled(tuple(3 + (len(item.tokens) * 5 + k + t) % 6 for t in range(2 + k)), (-2.0,) * (2 + k), "stop")
                for k in range(completions)
            )
            for item in items
        ]


def dpo(model: Any, out: Path, **settings: Any) -> nn.Module:
    """Four steps of 3, 3, 3 and 1 prompts: in the last one a process has nothing to do."""
    fit(model, out, **{"epochs": 1, "batch_prompts": 3, **settings})
    return model  # type: ignore[no-any-return]


def lora_dpo(model: Any, out: Path) -> nn.Module:
    return dpo(adapted(model, LoraSection(rank=2), "policy", 0), out)


def fine_tuning(model: Any, out: Path) -> nn.Module:
    section = SupervisedSection(learning_rate=1e-2, batch_prompts=3)
    engine = Engine(section, seed=5, out=out)
    engine.fit(PolicyScorer(model), elements_with_pairs(), SupervisedObjective())
    return model  # type: ignore[no-any-return]


def reward_model(model: Any, out: Path) -> nn.Module:
    """K-wise, whose prompts have two or three completions."""
    torch.manual_seed(0)
    model.score = nn.Linear(16, 1, bias=False)
    section = RewardModelSection(learning_rate=1e-2, batch_prompts=3, likelihood="kwise")
    scorer = RewardScorer(model)
    model.lm_head = nn.Identity()
    engine = Engine(section, seed=5, out=out)
    engine.fit(scorer, elements_with_pairs(), RewardObjective(section))
    return scorer


def rollouts(algorithm: Any, out: Path) -> nn.Module:
    section = PolicyGradientSection(
        algorithm=algorithm, learning_rate=1e-2, batch_prompts=3, completions_per_prompt=3, max_tokens=5, max_length=32,
        epochs_per_batch=2,
    )  # fmt: skip
    items = [PromptItem(f"p{n}", "", tuple(range(3, 4 + n % 3)), None) for n in range(4)]
    loop = make_loop(
        out,
        section,
        items,
        lambda rollout: float(sum(rollout.sampled.tokens)) % 7,
        vocabulary=9,
        sampler=FixedSampler(),
    )
    loop.run()
    return loop.trained


def jobs(tiny_model: Callable[..., Any]) -> dict[str, Job]:
    """Every task by name; models are made here, before processes part."""
    return {
        "dpo": partial(dpo, tiny_model()),
        "lora": partial(lora_dpo, tiny_model()),
        "sft": partial(fine_tuning, tiny_model()),
        "reward": partial(reward_model, tiny_model(tie_word_embeddings=False)),
        "ppo": partial(rollouts, "ppo"),
        "grpo": partial(rollouts, "grpo"),
        "online_dpo": partial(rollouts, "online_dpo"),
    }


def worker(rank: int, port: int, folder: Path, work: Mapping[str, Job]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    AcceleratorState._reset_state(reset_partial_state=True)  # the fork brought the parent's
    for name, job in work.items():
        torch.save(weights(job(folder / name)), folder / f"{name}-{rank}.pt")
        AcceleratorState._reset_state()
    torch.distributed.destroy_process_group()


def in_two_processes(folder: Path, work: Mapping[str, Job]) -> dict[str, list[dict[str, Tensor]]]:
    """The trained weights of each job in each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    torch.multiprocessing.start_processes(worker, args=(port, folder, work), nprocs=2, start_method="fork")
    return {name: [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)] for name in work}


def same_figures(one: Path, other: Path) -> None:
    """What a step logs, to 1e-5 relative; who wins at a margin of nought is for rounding to decide."""
    pairs = list(zip(read_steps(one), read_steps(other), strict=True))
    assert pairs
    for alone, both in pairs:
        assert alone.keys() == both.keys()
        for key in set(alone) - {"seconds", "phase", *(["accuracy"] if "pairs" in alone else [])}:
            assert both[key] == pytest.approx(alone[key], rel=1e-5, abs=1e-6), key


def test_two_processes_equal_one_in_every_task(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    alone = {}
    for name, job in jobs(tiny_model).items():
        alone[name] = weights(job(tmp_path / "alone" / name))
        AcceleratorState._reset_state(reset_partial_state=True)
    found = in_two_processes(tmp_path / "both", jobs(tiny_model))
    for name, (first, second) in found.items():
        same_figures(tmp_path / "alone" / name, tmp_path / "both" / name)
        for key, tensor in alone[name].items():
            assert torch.equal(first[key], second[key]), (name, key)
            assert_close(first[key], tensor, rtol=1e-3, atol=2e-5)


class Dies:
    """A job that a kill interrupts in both processes at the same micro-batch, and that goes on."""

    def __init__(self, model: Any, again: Any) -> None:
        self.model, self.again = model, again

    def __call__(self, out: Path) -> nn.Module:
        with pytest.raises(KeyboardInterrupt):
            dpo(self.model, out, die_at=4, save_every_steps=1, accelerate_config=FSDP)
        AcceleratorState._reset_state()
        return dpo(self.again, out, save_every_steps=1, accelerate_config=FSDP)


def test_shards_learn_what_one_process_does_and_resume(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    """FSDP2 on CPUs: loss, gradient, weights; a killed run bit for bit; its checkpoint read by a single process."""
    alone = weights(dpo(tiny_model(), tmp_path / "alone"))
    AcceleratorState._reset_state(reset_partial_state=True)
    work: dict[str, Job] = {
        "sharded": partial(dpo, tiny_model(), accelerate_config=FSDP),
        "many": partial(dpo, tiny_model(), accelerate_config=FSDP, tokens_per_micro_batch=60),
        "adapter": partial(dpo, adapted(tiny_model(), LoraSection(rank=2), "policy", 0), accelerate_config=FSDP),
        "resumed": Dies(tiny_model(), tiny_model()),
    }
    found = in_two_processes(tmp_path / "both", work)
    for name in ("sharded", "many", "resumed"):
        same_figures(tmp_path / "alone", tmp_path / "both" / name)
        for key, tensor in alone.items():
            assert torch.equal(found[name][0][key], found[name][1][key]), (name, key)
            assert_close(found[name][0][key], tensor, rtol=1e-3, atol=2e-5)
    for key in alone:
        assert torch.equal(found["resumed"][0][key], found["sharded"][0][key]), key
    lora = weights(lora_dpo(tiny_model(), tmp_path / "lora"))
    for key, tensor in lora.items():
        assert_close(found["adapter"][0][key], tensor, rtol=1e-3, atol=2e-5)
    single = PolicyScorer(tiny_model())
    optimiser = make_optimiser(single, PreferenceSection())
    cursor = load_checkpoint(tmp_path / "both" / "sharded" / "checkpoint", single, optimiser, "test")
    assert cursor is not None and cursor.step == 4
    assert all(torch.equal(p, found["sharded"][0][name]) for name, p in single.model.named_parameters())


def test_shipped_files_are_accelerates_and_ours() -> None:
    for path in sorted(CONFIGS.glob("*.yaml")):
        theirs, ours = load_config_from_file(str(path)), read_accelerate_config(path)
        assert theirs.num_processes == ours.processes == 2 * ours.machines and theirs.num_machines == ours.machines
        assert (theirs.main_process_ip or "") == ours.address and bool(ours.address) == (ours.machines > 1)
        assert (
            ours.sharded == (str(theirs.distributed_type).endswith("FSDP")) == (path.stem in ("fsdp2", "two-machines"))
        )
    command = launcher(PreferenceSection(accelerate_config=FSDP))
    assert command == ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"] or torch.cuda.is_available()
    assert launcher(PreferenceSection()) == [] and launcher(PreferenceSection(processes=2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("distributed_type: DEEPSPEED\n", "zero_stage is None; give 1 or 2.*fsdp2.yaml"),
        ("distributed_type: MEGATRON_LM\n", "distributed_type is 'MEGATRON_LM'; choose FSDP"),
        ("distributed_type: FSDP\n", "fsdp_version must be 2"),
        ("distributed_type: [\n", "cannot be read"),
    ],
)
def test_unsuitable_file_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        check_devices("preference", PreferenceSection(accelerate_config=tmp_path / "a.yaml"))


def test_what_shards_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave processes at 1"):
        check_devices("preference", PreferenceSection(accelerate_config=FSDP, processes=2))
    with pytest.raises(InputError, match="policy_gradient samples or scores with whole weights"):
        check_devices("policy_gradient", PolicyGradientSection(accelerate_config=FSDP))
    with pytest.raises(InputError, match="cannot be read"):
        check_devices("preference", PreferenceSection(accelerate_config=tmp_path / "no.yaml"))
