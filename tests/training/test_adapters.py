"""Adapters: they begin as the base, leave it alone, merge into what they compute, and share its memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from flows.train_cli import make_spec
from ratify.errors import InputError
from ratify.lora_section import LoraSection
from ratify.policy_gradient_section import PolicyGradientSection
from ratify.sections import PreferenceSection, RewardModelSection, SupervisedSection
from training.adapters import adapted, load_scalar_adapter, merged, own_tensors, scalar_view
from training.cost import training_flops
from training.data import Element
from training.engine import Engine
from training.estimate import shape_of, work_of
from training.metrics import read_metrics
from training.models import load_encoder, load_policy, load_reward_model
from training.policy_gradient import train_policy_gradient
from training.preference import train_preference
from training.reward_model import train_reward_model
from training.roles import SharedBase, WholeModels
from training.rollout_loop import RolloutLoop
from training.scorers import PolicyScorer, RewardScorer, hidden_states
from training.spec import PolicyGradientTask, PreferenceTask, RewardModelTask, SupervisedTask
from training.supervised import train_supervised
from training.tree import Layout, token_batch

Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
MakeModel = Callable[..., Any]
LORA = LoraSection(rank=4)
FAST = {"learning_rate": 2e-2, "epochs": 3, "batch_prompts": 8, "threads": 1, "lora": LORA}
ELEMENTS = [Element("p0", (5, 6, 7), ((8, 9), (10, 11, 12))), Element("p1", (9, 4), ((7,), (6, 5, 4), (30, 31)))]


def moved(tree: nn.Module, size: float = 0.1) -> None:
    """Give every trained tensor values, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in own_tensors(tree).values():
            tensor.add_(size * torch.randn(tensor.shape, generator=generator))


def logprobs(model: Any, layout: Layout = "tree") -> Tensor:
    with torch.no_grad():
        found: Tensor = PolicyScorer(model)(token_batch(ELEMENTS, layout)).token_M
    return found


def distinct_numbers(*modules: nn.Module) -> int:
    """How many numbers the parameters of all modules hold together in memory."""
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in modules for p in m.parameters()}
    return sum(held.values()) // 4


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_fresh_adapter_computes_the_base_and_never_changes_it(family: str, tiny_model: MakeModel) -> None:
    base = tiny_model(family)
    before, weights = logprobs(base), {n: p.detach().clone() for n, p in base.named_parameters()}
    tree = adapted(base, LORA, "policy", seed=0)
    assert torch.equal(logprobs(tree), before)
    moved(tree)
    assert (logprobs(tree) - before).abs().max() > 0.01
    assert torch.equal(logprobs(base), before), "the adapter switched off is the base"
    assert all(torch.equal(p, weights[n]) for n, p in base.named_parameters())
    plain = merged(tree)
    assert_close(logprobs(plain), logprobs(tree), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(p, weights[n]) for n, p in base.named_parameters()), "merging works on a copy"
    assert {n for n, _ in plain.named_parameters()} == set(weights)


def test_adapters_depend_on_seed_and_name(tiny_model: MakeModel) -> None:
    base = tiny_model()
    trees = [adapted(base, LORA, name, seed) for name, seed in (("policy", 0), ("policy", 0), ("policy", 1))]
    first, same, other = (next(iter(own_tensors(tree).values())) for tree in trees)
    assert torch.equal(first, same) and not torch.equal(first, other)
    value = adapted(base, LORA, "value", 0)
    assert not torch.equal(first, next(iter(own_tensors(value).values())))


def gradients(model: Any, layout: Layout) -> dict[str, Tensor]:
    model.zero_grad()
    PolicyScorer(model)(token_batch(ELEMENTS, layout)).sum_N.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_prefix_sharing_does_not_move_an_adapters_gradient(tiny_model: MakeModel) -> None:
    tree = adapted(tiny_model(), LORA, "policy", seed=0)
    moved(tree)
    whole, padded = (gradients(tree, layout) for layout in ("tree", "padded"))
    assert whole.keys() == own_tensors(tree).keys()
    for name, gradient in whole.items():
        assert (padded[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_gradient_is_the_full_one_seen_through_the_adapter(tiny_model: MakeModel) -> None:
    """With W' = W + s·B·A: dL/dB = s·G·Aᵀ and dL/dA = s·Bᵀ·G, G the gradient of the merged weight."""
    tree = adapted(tiny_model(), LORA, "policy", seed=0)
    moved(tree)
    plain = merged(tree).requires_grad_(True)
    full, ours, own = gradients(plain, "tree"), gradients(tree, "tree"), own_tensors(tree)
    path = "model.layers.0.mlp.up_proj"
    a, b = (own[f"{path}.lora_{matrix}.policy.weight"] for matrix in "AB")
    scale = LORA.strength / LORA.rank
    assert_close(ours[f"{path}.lora_B.policy.weight"], scale * full[f"{path}.weight"] @ a.T, rtol=1e-3, atol=1e-4)
    assert_close(ours[f"{path}.lora_A.policy.weight"], scale * b.T @ full[f"{path}.weight"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["policy", "reward"])
def test_flops_agree_with_torchs_own_count(kind: str, tiny_model: MakeModel) -> None:
    model = tiny_model(hidden_size=64, intermediate_size=128, attn_implementation="eager")
    if kind == "reward":
        model.score = nn.Linear(64, 1, bias=False)
    tree = adapted(model, LORA, "policy", seed=0)
    scorer = PolicyScorer(tree) if kind == "policy" else RewardScorer(tree)
    element = Element("p", tuple(range(20, 80)), (tuple(range(80, 120)),))
    batch = token_batch([element], "tree")
    with FlopCounterMode(display=False) as counter:
        hidden = hidden_states(tree, batch, batch.source_M).flatten(0, 1)
        output = scorer.logits(hidden[batch.source_M]) if kind == "policy" else tree.score(hidden[batch.last_N])
        output.sum().backward()
    work = work_of([element], "tree", by_token=kind == "policy")
    assert training_flops(shape_of(scorer), work) == pytest.approx(counter.get_total_flops(), rel=0.06)


def test_wrong_target_is_named(tiny_model: MakeModel) -> None:
    with pytest.raises(InputError, match=r"lora.target_modules = \['query'\] fits no linear layer"):
        adapted(tiny_model(), LoraSection(rank=2, target_modules=("query",)), "policy", 0)
    tree = adapted(tiny_model(), LoraSection(rank=2, target_modules=("q_proj",)), "policy", 0)
    assert all("q_proj" in name for name in own_tensors(tree))


def test_command_line_takes_a_rank(tmp_path: Path) -> None:
    spec = make_spec("dpo", ["lora.rank=8"], data=tmp_path, model="m", out=None, seed=0, drop=False)
    assert spec.section.lora == LoraSection(rank=8) and spec.section.lora.strength == 16
    assert "lora" not in PreferenceSection().model_dump()


def test_dpo_trains_an_adapter_that_peft_reads_and_a_plain_folder(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    spec = PreferenceTask(data=write_rows(learnable_rows(30)), out=tmp_path / "dpo", model=str(policy_folder),
                          section=PreferenceSection(**FAST, save_every_steps=1))  # fmt: skip
    engine, result = train_preference(spec, "mark")
    steps = [m for m in read_metrics(spec.out / "metrics.jsonl") if "loss" in m]
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-9) and result.metrics["train/accuracy"] > 0.8
    (checkpoint,) = engine.checkpoints.glob("step-*")
    saved = load_file(checkpoint / "weights.safetensors")
    assert saved and all(".lora_" in name for name in saved)
    assert sum(t.numel() for t in saved.values()) == result.metrics["parameters"]
    moments = load_file(checkpoint / "optimiser.safetensors")
    assert sum(t.numel() for n, t in moments.items() if "exp_avg" in n) == 2 * result.metrics["parameters"]
    plain = AutoModelForCausalLM.from_pretrained(spec.out / "model")
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(policy_folder), spec.out / "model-adapter")
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        assert_close(plain(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-5)
        base = AutoModelForCausalLM.from_pretrained(policy_folder)(ids).logits
        assert (base - plain(ids).logits).abs().max() > 0.01
        with theirs.disable_adapter():
            assert torch.equal(theirs(ids).logits, base)


def test_fine_tuning_trains_an_adapter(policy_folder: Path, write_rows: Write, tmp_path: Path) -> None:
    rows = [{"prompt": [{"role": "user", "content": f"say {n}"}], "completion": "xyxyx"} for n in range(12)]
    spec = SupervisedTask(data=write_rows(rows), out=tmp_path / "sft", model=str(policy_folder),
                          section=SupervisedSection(**FAST))  # fmt: skip
    _, result = train_supervised(spec, "mark")
    assert result.metrics["validation/loss"] < result.metrics["validation/loss_before"] - 0.5
    assert (spec.out / "model-adapter" / "adapter_model.safetensors").is_file()


@pytest.fixture(scope="module")
def reward_out(policy_folder: Path, learnable_rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that was trained as an adapter and normalised."""
    out = tmp_path_factory.mktemp("rm")
    data = out / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in learnable_rows(30)))
    section = RewardModelSection(**FAST, validation_fraction=0.2, normalise=True)
    _, result = train_reward_model(RewardModelTask(data=data, out=out, model=str(policy_folder), section=section), "m")
    assert result.metrics["validation/accuracy"] > 0.8 > result.metrics["validation/accuracy_before"]
    return out


def rewards(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = RewardScorer(model)(token_batch(ELEMENTS, "tree"))
    return found


def test_reward_adapter_gives_the_merged_models_rewards(reward_out: Path, policy_folder: Path) -> None:
    """Through our loader with its offset, and through peft."""
    encoder = load_encoder(str(policy_folder))
    base = scalar_view(load_policy(str(policy_folder)), str(policy_folder), encoder, seed=0)
    ours = load_scalar_adapter(base, reward_out / "model-adapter", "reward")
    plain = load_reward_model(str(reward_out / "model"))
    assert_close(rewards(ours), rewards(plain), rtol=1e-4, atol=1e-5)
    start = AutoModelForSequenceClassification.from_pretrained(policy_folder, num_labels=1)
    start.config.pad_token_id = plain.config.pad_token_id
    theirs = PeftModel.from_pretrained(start, reward_out / "model-adapter")
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        assert_close(theirs(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-5)


def test_four_models_of_ppo_take_the_memory_of_one(reward_out: Path, policy_folder: Path) -> None:
    """Full PPO holds four; with adapters, one and what the three adapters and two heads hold."""
    encoder, folder = load_encoder(str(policy_folder)), str(reward_out / "model")
    whole, shared = WholeModels(str(policy_folder), encoder, 0), SharedBase(str(policy_folder), encoder, 0, LORA)
    one = distinct_numbers(load_policy(str(policy_folder)))
    full = distinct_numbers(whole.policy, whole.reference, whole.critic(folder), whole.reward(folder))
    assert full == 4 * one + 2 * 16  # both heads are 16 wide
    reward, critic = shared.reward(folder), shared.critic(folder)
    assert_close(rewards(reward), rewards(critic))
    own = sum(t.numel() for tree in (shared.policy, critic) for t in own_tensors(tree).values())
    of_reward = sum(p.numel() for n, p in reward.named_parameters() if ".lora_" in n or n == "score.weight")
    held = distinct_numbers(shared.policy, shared.reference, critic, reward)
    assert held == one + own + of_reward
    assert shared.rewards == {folder: reward} and shared.reward(folder) is reward


def ppo(policy_folder: Path, reward_out: Path, data: Path, out: Path, **settings: Any) -> PolicyGradientTask:
    section = PolicyGradientSection(**{
        "batch_prompts": 3, "completions_per_prompt": 4, "max_tokens": 6, "max_length": 80, "learning_rate": 1e-2,
        "threads": 1, "epochs": 2, "save_every_steps": 1, "epochs_per_batch": 2, "lora": LORA, **settings,
    })  # fmt: skip
    return PolicyGradientTask(
        data=data, out=out, model=str(policy_folder), reward_model=str(reward_out / "model"), section=section
    )


@pytest.fixture
def prompts(write_rows: Write) -> Path:
    return write_rows([{"messages": [{"role": "user", "content": f"say {n}"}]} for n in range(6)], "prompts.jsonl")


def test_killed_ppo_resumes_bit_for_bit_from_adapters_alone(
    policy_folder: Path, reward_out: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (ppo(policy_folder, reward_out, prompts, tmp_path / name) for name in ("whole", "killed"))
    train_policy_gradient(whole, "mark")
    first = next(m for m in read_metrics(whole.out / "metrics.jsonl") if "kl" in m)
    assert first["kl"] == 0.0
    step = RolloutLoop.step

    def dying(self: RolloutLoop, number: int, rate: float) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number, rate)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RolloutLoop, "step", dying)
        train_policy_gradient(killed, "mark")
    (checkpoint,) = (killed.out / "checkpoint").glob("step-*")
    names = set(load_file(checkpoint / "weights.safetensors"))
    assert {name.split(".")[0] for name in names} == {"policy", "critic"}
    assert all(".lora_" in name or name == "critic.model.score.weight" for name in names)
    train_policy_gradient(killed, "mark")
    for folder in ("model", "model-adapter", "critic", "critic-adapter"):
        one, other = (load_file(next((spec.out / folder).glob("*.safetensors"))) for spec in (whole, killed))
        assert one and all(torch.equal(one[name], other[name]) for name in one), folder


def test_foreign_reward_model_is_scored_whole_and_starts_no_critic(
    policy_folder: Path, reward_out: Path, prompts: Path, tmp_path: Path
) -> None:
    """One without an adapter beside it, as full training leaves."""
    (tmp_path / "rm").mkdir()
    (tmp_path / "rm" / "model").symlink_to(reward_out / "model")
    train_policy_gradient(ppo(policy_folder, tmp_path / "rm", prompts, tmp_path / "ok", epochs=1), "mark")
    with pytest.raises(InputError, match="needs a reward model that is an adapter on"):
        spec = ppo(policy_folder, tmp_path / "rm", prompts, tmp_path / "no", critic_from="reward_model")
        train_policy_gradient(spec, "mark")


def test_killed_dpo_resumes_bit_for_bit(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(learnable_rows(20))
    whole, killed = (
        PreferenceTask(data=data, out=tmp_path / name, model=str(policy_folder),
                       section=PreferenceSection(**FAST, save_every_steps=2))
        for name in ("whole", "killed")
    )  # fmt: skip
    train_preference(whole, "mark")
    update, calls = Engine.update, [0]

    def dying(self: Engine, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return update(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Engine, "update", dying)
        train_preference(killed, "mark")
    train_preference(killed, "mark")
    one, other = (load_file(spec.out / "model" / "model.safetensors") for spec in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)
