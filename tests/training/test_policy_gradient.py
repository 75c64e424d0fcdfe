"""The task: from files to a folder, with a trained reward model, mixtures, pretraining data, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ratify.errors import InputError
from ratify.policy_gradient_section import PolicyGradientSection
from training import child
from training.metrics import read_metrics
from training.models import load_encoder, reward_model_from, save_model
from training.policy_gradient import Extras, train_policy_gradient
from training.result import read_result
from training.rewards import JudgeReward
from training.spec import PolicyGradientTask, fingerprint

Write = Callable[..., Path]
TINY = {"batch_prompts": 3, "completions_per_prompt": 4, "max_tokens": 6, "max_length": 80, "learning_rate": 1e-2,
        "threads": 1, "epochs": 2, "save_every_steps": 1}  # fmt: skip
LENGTH = {"kind": "length", "name": "length", "max_tokens": 2, "slack": 4}


def rows(count: int = 6) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"say {number}"}], "id": f"p{number}", "answer": number}
        for number in range(count)
    ]


@pytest.fixture
def task(policy_folder: Path, write_rows: Write, tmp_path: Path) -> Callable[..., PolicyGradientTask]:
    def make(out: str = "pg", reward_model: str | None = None, data: Path | None = None, **settings: Any) -> Any:
        section = PolicyGradientSection(**{**TINY, **settings})
        data = data or write_rows(rows(), "prompts.jsonl")
        return PolicyGradientTask(
            data=data, out=tmp_path / out, model=str(policy_folder), reward_model=reward_model, section=section
        )

    return make


@pytest.fixture(scope="module")
def reward_folder(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random reward model with an offset, as normalisation leaves one."""
    folder = tmp_path_factory.mktemp("rm") / "model"
    encoder = load_encoder(str(policy_folder))
    model = reward_model_from(str(policy_folder), encoder, 7)
    model.config.reward_offset = 0.3
    save_model(model, str(policy_folder), encoder, folder)
    return str(folder)


def test_ppo_from_a_reward_model_through_the_child(
    task: Callable[..., PolicyGradientTask], reward_folder: str, tmp_path: Path, policy_folder: Path
) -> None:
    """Its critic begins as the reward model, normalisation's offset included; both folders are plain Hugging Face."""
    spec = task(reward_model=reward_folder, algorithm="ppo", epochs_per_batch=2)
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json())
    assert child.main([str(path)]) == 0
    result = read_result(spec.out)
    assert result is not None and result.layout == "packed"
    assert result.metrics["steps"] == 4 and result.metrics["train/scored"] == 1.0
    first = next(m for m in read_metrics(spec.out / "metrics.jsonl") if "kl" in m)
    assert first["kl"] == 0.0 and {"explained_variance", "value_loss", "reward/reward_model"} <= set(first)
    trained = AutoModelForCausalLM.from_pretrained(str(result.model))
    start = AutoModelForCausalLM.from_pretrained(policy_folder)
    assert not torch.equal(trained.lm_head.weight, start.lm_head.weight)
    critic = AutoModelForSequenceClassification.from_pretrained(spec.out / "critic")
    assert critic.config.reward_offset == 0.3 and critic.config.num_labels == 1
    assert not (spec.out / "checkpoint").exists()


def test_critic_from_the_policy_says_nought_at_first(
    task: Callable[..., PolicyGradientTask], reward_folder: str
) -> None:
    spec = task(reward_model=reward_folder, critic_from="policy", epochs=1, learning_rate=1e-9)
    train_policy_gradient(spec, "mark")
    first = next(m for m in read_metrics(spec.out / "metrics.jsonl") if "kl" in m)
    assert first["value"] == 0.0
    weights = load_file(spec.out / "critic" / "model.safetensors")
    assert float(weights["score.weight"].abs().max()) < 1e-6


def test_pretraining_data_keeps_its_likelihood_up(
    task: Callable[..., PolicyGradientTask], write_rows: Write, reward_folder: str
) -> None:
    """PPO-ptx: with γ the completions of the file become more likely, without it they do not."""
    kept = [{"prompt": [{"role": "user", "content": "hi"}], "completion": text} for text in ("xyxyxy", "xxyy")]
    data = write_rows(kept, "sft.jsonl")
    spec = task(reward_model=reward_folder, epochs=3, pretraining_data=data, pretraining_weight=5.0)
    train_policy_gradient(spec, "mark")
    found = [float(m["pretraining_logprob"]) for m in read_metrics(spec.out / "metrics.jsonl") if "kl" in m]
    assert found[-1] > found[0] + 0.5
    other = spec.model_copy(
        update={"section": spec.section.model_copy(update={"pretraining_data": data.with_name("b.jsonl")})}
    )
    (data.with_name("b.jsonl")).write_text(data.read_text())
    assert fingerprint(other) == fingerprint(spec)
    data.write_text(data.read_text().replace("xx", "yy"))
    assert fingerprint(other) != fingerprint(spec)


def test_mixture_with_a_constraint_logs_every_part(task: Callable[..., PolicyGradientTask], reward_folder: str) -> None:
    ensemble = {"kind": "model", "name": "rm", "models": [reward_folder, reward_folder], "combine": "min"}
    rewards = [
        ensemble,
        {**LENGTH, "at_least": 0.9},
        {"kind": "regex", "name": "no_z", "pattern": "z", "present": False},
    ]
    spec = task(algorithm="rloo", rewards=rewards)
    train_policy_gradient(spec, "mark")
    last = read_metrics(spec.out / "metrics.jsonl")[-1]
    names = {"reward/rm", "reward/rm_0", "reward/rm_variance", "reward/length", "reward/no_z", "reward/dual_1"}
    assert names <= set(last) and float(last["reward/dual_1"]) > 0 and last["reward/rm_variance"] == 0.0


@pytest.mark.parametrize("algorithm", ["grpo", "reinforce", "online_dpo"])
def test_verifiable_rewards_need_no_model(algorithm: str, task: Callable[..., PolicyGradientTask]) -> None:
    spec = task(algorithm=algorithm, rewards=[LENGTH, {"kind": "exact_answer", "weight": 0.5}])
    _, result = train_policy_gradient(spec, "mark")
    assert Path(str(result.model)).is_dir() and not (spec.out / "critic").exists()


def test_a_judge_can_be_handed_in(task: Callable[..., PolicyGradientTask]) -> None:
    asked: list[str] = []
    judge = JudgeReward("judge", lambda found: [asked.append(r.text) or float(len(r.text)) for r in found])  # type: ignore[func-returns-value]
    spec = task(algorithm="rloo", epochs=1)
    train_policy_gradient(spec, "mark", Extras(source=judge))
    assert len(asked) == 24 and not any("<|im_end|>" in text for text in asked)


def test_resumed_task_equals_an_uninterrupted_one(
    task: Callable[..., PolicyGradientTask], reward_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (task(out, reward_model=reward_folder, epochs_per_batch=2) for out in ("whole", "killed"))
    train_policy_gradient(whole, "mark")
    from training.rollout_loop import RolloutLoop

    step = RolloutLoop.step

    def dying(self: RolloutLoop, number: int, rate: float) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number, rate)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RolloutLoop, "step", dying)
        train_policy_gradient(killed, "mark")
    train_policy_gradient(killed, "mark")
    for folder in ("model", "critic"):
        one, other = (load_file(spec.out / folder / "model.safetensors") for spec in (whole, killed))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_bad_input_is_one_sentence(
    task: Callable[..., PolicyGradientTask], reward_folder: str, write_rows: Write, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="names no reward model and the task was given none"):
        train_policy_gradient(task(), "mark")
    with pytest.raises(InputError, match="all 6 prompts are longer than 6 tokens"):
        train_policy_gradient(task(reward_model=reward_folder, max_length=12), "mark")
    bare = write_rows([{"prompt": "a"}], "bare.jsonl")
    with pytest.raises(InputError, match="no row has an `answer`"):
        train_policy_gradient(task(data=bare, algorithm="grpo", rewards=[{"kind": "exact_answer"}]), "mark")
    with pytest.raises(InputError, match="bare.jsonl:1: the prompt ends with an assistant turn"):
        answered = [{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
        train_policy_gradient(task(data=write_rows(answered, "bare.jsonl"), reward_model=reward_folder), "mark")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in Path(reward_folder).iterdir():
        (foreign / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((foreign / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (foreign / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="has another tokenizer than policy"):
        train_policy_gradient(task(reward_model=str(foreign)), "mark")
