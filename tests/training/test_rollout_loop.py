"""The rollout loop: where it begins, what it does not depend on, what a missing score does, and resuming."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ratify.errors import TrainingError
from ratify.policy_gradient_section import PolicyGradientSection
from tests.training.rollout_models import make_loop
from training.layout import choose_layout
from training.rewards import FunctionReward, Mixture, Rollout
from training.rollout_loop import RolloutLoop
from training.rollout_objective import PolicyObjective, ValueObjective
from training.rollouts import PromptItem, Sampled
from training.tree import token_batch

ITEMS = [PromptItem(f"p{n}", "", tuple(range(3, 4 + n % 3)), str(n)) for n in range(6)]
ALL = ("ppo", "grpo", "dr_grpo", "dapo", "rloo", "reinforce", "online_dpo")
CRITIC = {"critic_learning_rate": 1e-2}


def section_for(algorithm: str, **settings: Any) -> PolicyGradientSection:
    defaults = {
        "algorithm": algorithm, "learning_rate": 1e-2, "epochs": 2, "batch_prompts": 3, "completions_per_prompt": 4,
        "max_tokens": 5, "max_length": 32, "save_every_steps": 1, "kl_coefficient": 0.1,
    }  # fmt: skip
    return PolicyGradientSection(**{**defaults, **settings})


def many_fours(rollout: Rollout) -> float | None:
    """The share of token 4, which a policy can learn to write."""
    return rollout.sampled.tokens.count(4) / len(rollout.sampled.tokens)


def loop_for(out: Path, section: PolicyGradientSection, reward: Any = many_fours, **further: Any) -> RolloutLoop:
    return make_loop(out, section, ITEMS, reward, vocabulary=9, stops=[2], **further)


def steps_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "kl" in line]


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("algorithm", ALL)
def test_first_step_has_ratio_exactly_one_and_no_kl(algorithm: str, tmp_path: Path) -> None:
    """One pass, one minibatch: the learning policy is the sampling one, to the last bit."""
    loop_for(tmp_path, section_for(algorithm, epochs=1, epochs_per_batch=1, batch_prompts=6)).run()
    first = steps_of(tmp_path)[0]
    assert first["kl"] == 0.0
    assert first["sampler_ratio"] == pytest.approx(1.0, abs=1e-4)
    assert first["sampler_ratio_max"] == pytest.approx(1.0, abs=1e-3)
    if algorithm == "online_dpo":
        assert first["loss"] == pytest.approx(math.log(2), abs=0.05)
    else:
        assert first["ratio"] == 1.0 == first["ratio_max"] and first["step_kl"] == 0.0 and first["clip_fraction"] == 0.0


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_packed_trees_keep_the_first_ratio_at_one(algorithm: str, tmp_path: Path) -> None:
    """Policy, reference and critic with packed rows and a trimmed last layer."""
    loop = loop_for(tmp_path, section_for(algorithm, epochs=1, epochs_per_batch=1, batch_prompts=6))
    for scorer in (loop.parts.policy, loop.parts.reference, loop.parts.critic):
        assert scorer is None or choose_layout(scorer.model, "tree", 32) == "packed"
    loop.engine.layout = "packed"
    loop.run()
    first = steps_of(tmp_path)[0]
    assert first["ratio"] == 1.0 == first["ratio_max"] and first["step_kl"] == 0.0
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert first["sampler_ratio_max"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("algorithm", ALL)
def test_every_algorithm_earns_more(algorithm: str, tmp_path: Path) -> None:
    section = section_for(algorithm, epochs=12, batch_prompts=6, completions_per_prompt=8, save_every_steps=0,
                          learning_rate=2e-2, kl_coefficient=0.01)  # fmt: skip
    loop_for(tmp_path, section).run()
    steps = steps_of(tmp_path)
    assert steps[-1]["reward"] > steps[0]["reward"] + 0.15
    assert steps[-1]["kl"] > 0.05


def test_gradient_checkpointing_samples_and_learns_the_same(tmp_path: Path) -> None:
    """Policy and critic, bit for bit; sampling goes on with a key-value cache."""
    plain = loop_for(tmp_path / "plain", section_for("ppo"))
    saving = loop_for(tmp_path / "saving", section_for("ppo", gradient_checkpointing=True))
    plain.run()
    saving.run()
    assert saving.parts.policy.model.is_gradient_checkpointing
    for one, other in ((plain.parts.policy, saving.parts.policy), (plain.parts.critic, saving.parts.critic)):
        assert one is not None and other is not None
        assert all(torch.equal(weights(other)[name], tensor) for name, tensor in weights(one).items())


def policy_gradient_of(out: Path, algorithm: str, **settings: Any) -> dict[str, Tensor]:
    """The gradients of one step on a fixed batch, after the reference has been moved away; critic's too."""
    section = section_for(algorithm, batch_prompts=6, epochs_per_batch=1, entropy_weight=0.01, **settings)
    loop = loop_for(out, section)
    with torch.no_grad():
        for parameter in loop.parts.reference.parameters():
            parameter.add_(0.05 * torch.arange(parameter.numel()).view_as(parameter).float().sin())
    found: dict[str, Tensor] = {}
    engine = loop.engine
    accumulate = engine._accumulate

    def keep(module: nn.Module, *rest: Any) -> Any:
        totals = accumulate(module, *rest)
        found.update({f"{type(module).__name__}.{n}": p.grad.clone() for n, p in module.named_parameters()})
        return totals

    engine._accumulate = keep  # type: ignore[method-assign]
    modules = [module for module in (loop.parts.policy, loop.parts.critic) if module is not None]
    *prepared, loop.optimiser = engine.accelerator.prepare(*modules, loop._optimiser())
    loop.modules = dict(zip(("policy", "critic"), prepared, strict=False))
    loop.step(0, 1e-2)
    return found


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "dr_grpo", "rloo"])
@pytest.mark.parametrize(
    "settings", [{"tokens_per_micro_batch": 1}, {"tokens_per_micro_batch": 60}, {"layout": "padded"}]
)
def test_gradient_does_not_depend_on_micro_batches_padding_or_prefix_sharing(
    algorithm: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = policy_gradient_of(tmp_path / "whole", algorithm)
    cut = policy_gradient_of(tmp_path / "cut", algorithm, **settings)
    assert any("Value" in name for name in whole) == (algorithm == "ppo")
    for name, gradient in whole.items():
        assert (cut[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-9, name


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "sequence_sum", "constant"])
def test_loss_equals_a_naive_loop_over_completions(aggregation: str, tmp_path: Path) -> None:
    """On a policy that has moved: every completion alone through the bare model, sums and means by hand."""
    section = section_for("rloo", batch_prompts=6, aggregation=aggregation, kl_in="loss", importance_cap=1.5)
    loop = loop_for(tmp_path, section)
    sample = loop._recomputed(*loop._scored(loop._sampled(0)), torch.zeros(24), 0)
    advantage = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
    experience = loop._experience(sample, advantage, advantage)
    objective = PolicyObjective(section, experience, 0.3)
    with torch.no_grad():
        for parameter in loop.parts.policy.parameters():
            parameter.add_(0.1 * torch.arange(parameter.numel()).view_as(parameter).float().cos())
    elements = sample.batch.elements
    terms = objective.terms(loop.parts.policy, elements, token_batch(elements, "tree"))
    found = float(terms.loss_sum.detach()) / sum(map(objective.weight, elements))

    losses, number = [], 0
    for element, old_values, reference_values, sampled_values in zip(
        elements, sample.old, sample.reference, sample.sampler, strict=True
    ):
        start = 0
        for completion in element.completions:
            ids = torch.tensor([[*element.prompt, *completion]])
            with torch.no_grad():
                logprobs = loop.parts.policy.model(ids).logits[0].log_softmax(-1)
            own = []
            for t, token in enumerate(completion):
                new = float(logprobs[len(element.prompt) - 1 + t, token])
                old, ref, drawn = (
                    float(column[start + t]) for column in (old_values, reference_values, sampled_values)
                )
                rho, a = math.exp(new - old), float(advantage[number, t])
                surrogate = -min(rho * a, min(max(rho, 0.8), 1.2) * a) * min(math.exp(old - drawn), 1.5)
                own.append(surrogate + 0.3 * rho * (math.exp(ref - new) - 1 + new - ref))
            losses.append(own)
            start += len(completion)
            number += 1
    sums = [sum(own) for own in losses]
    expected = {
        "token_mean": sum(sums) / sum(map(len, losses)),
        "sequence_mean": sum(total / len(own) for total, own in zip(sums, losses, strict=True)) / len(losses),
        "sequence_sum": sum(sums) / len(losses),
        "constant": sum(sums) / len(losses) / section.max_tokens,
    }[aggregation]
    assert found == pytest.approx(expected, rel=1e-4)


def test_critics_loss_equals_a_naive_loop(tmp_path: Path) -> None:
    """Each token's value from the bare model on the tokens before it; missing scores count nowhere."""
    section = section_for("ppo", batch_prompts=6)
    loop = loop_for(tmp_path, section)
    batch, scored = loop._scored(loop._sampled(0))
    scored = scored._replace(value_N=scored.value_N.where(torch.arange(24) % 5 > 0, math.nan))
    sample = loop._recomputed(batch, scored, torch.zeros(24), 0)
    target = torch.randn(24, 5, generator=torch.Generator().manual_seed(2))
    objective = ValueObjective(section, loop._experience(sample, target, target))
    critic = loop.parts.critic
    assert critic is not None
    with torch.no_grad():
        critic.model.score.weight.add_(0.7)
    elements = sample.batch.elements
    terms = objective.terms(critic, elements, token_batch(elements, "tree"))
    found = float(terms.loss_sum.detach()) / sum(map(objective.weight, elements))

    losses, number = [], 0
    for element in elements:
        for completion in element.completions:
            for t in range(len(completion)):
                with torch.no_grad():
                    ids = torch.tensor([[*element.prompt, *completion[:t]]])
                    value = float(critic.model.score(critic.model.model(ids).last_hidden_state[0, -1]))
                goal = float(target[number, t])
                held = min(max(value, -0.2), 0.2)  # the old value was 0
                if number % 5:
                    losses.append(0.5 * max((value - goal) ** 2, (held - goal) ** 2))
            number += 1
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize("algorithm", ["grpo", "dr_grpo", "dapo", "online_dpo"])
def test_scores_that_are_all_alike_teach_nothing(algorithm: str, tmp_path: Path) -> None:
    """0.1 has no exact float32; its rounding, divided by a deviation of nought, would be an advantage."""
    section = section_for(algorithm, epochs=1, completions_per_prompt=7, batch_prompts=6, kl_estimator="k3")
    loop_for(tmp_path, section, lambda _: 0.1).run()
    step = steps_of(tmp_path)[0]
    assert step.get("without_signal", 1.0) == 1.0 and step.get("grad_norm", 0.0) < 1e-6


@pytest.mark.parametrize("algorithm", ALL)
def test_without_any_score_nothing_moves(algorithm: str, tmp_path: Path) -> None:
    loop = loop_for(tmp_path, section_for(algorithm, epochs=1, missing_end_penalty=1.0), lambda _: None)
    before = weights(loop.trained)
    loop.run()
    assert steps_of(tmp_path)[0]["scored"] == 0.0
    for name, tensor in weights(loop.trained).items():
        assert torch.equal(tensor, before[name]), name


class WithoutLast:
    """Drops each prompt's last completion, as if it had never been sampled."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def refresh(self) -> None:
        self.inner.refresh()

    def sample(self, items: Sequence[PromptItem], completions: int, seed: int) -> list[tuple[Sampled, ...]]:
        return [found[:-1] for found in self.inner.sample(items, completions, seed)]


@pytest.mark.parametrize("algorithm", ALL)
def test_missing_score_is_as_if_the_completion_had_not_been_sampled(algorithm: str, tmp_path: Path) -> None:
    """Zero gradient: neither reward 0, nor a place in a mean, nor in the denominator; KL penalty included."""
    section = section_for(algorithm, epochs=1, batch_prompts=6, epochs_per_batch=1)
    plain = loop_for(tmp_path / "plain", section)
    plain.parts = plain.parts._replace(sampler=WithoutLast(plain.parts.sampler))
    plain.run()
    seen: dict[str, int] = {}

    def without_every_fourth(rollout: Rollout) -> float | None:
        seen[rollout.item.prompt_id] = seen.get(rollout.item.prompt_id, 0) + 1
        return None if seen[rollout.item.prompt_id] == 4 else many_fours(rollout)

    other = loop_for(tmp_path / "other", section, without_every_fourth)
    other.run()
    assert steps_of(tmp_path / "other")[0]["scored"] == 0.75
    one, two = steps_of(tmp_path / "plain")[0], steps_of(tmp_path / "other")[0]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5, abs=1e-6)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


class Stopped(Exception):
    """A kill."""


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("ppo", {"kl_target": 0.5, "kl_horizon": 20.0, "reward_normalisation": "running", "minibatches": 2, **CRITIC}),
        ("reinforce", {"moving_baseline": 0.9}),
        ("online_dpo", {}),
    ],
)
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    algorithm: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Weights, both optimisers' moments, KL coefficient, reward moments, baseline, dual variable, metrics."""
    section = section_for(algorithm, epochs=3, **settings)

    def source() -> Mixture:
        short = FunctionReward("short", lambda rollout: -len(rollout.sampled.tokens) / 5)
        return Mixture([FunctionReward("fours", many_fours), short], [1.0, 1.0], [None, -0.5])

    whole = loop_for(tmp_path / "whole", section, source())
    whole.run()
    killed = loop_for(tmp_path / "killed", section, source())
    update, calls = killed.engine.update, [0]

    def dying(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3 * section.method.epochs_per_batch * section.minibatches + 2:
            raise Stopped
        return update(*arguments)

    killed.engine.update = dying  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        killed.run()
    torch.manual_seed(999)
    resumed = loop_for(tmp_path / "killed", section, source())
    resumed.run()
    for name, tensor in weights(whole.trained).items():
        assert torch.equal(weights(resumed.trained)[name], tensor), name
    assert resumed._state() == whole._state()
    timeless = [[{**line, "seconds": 0} for line in steps_of(tmp_path / name)] for name in ("whole", "killed")]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 6


def test_critic_warms_up_alone(tmp_path: Path) -> None:
    loop = loop_for(tmp_path, section_for("ppo", epochs=1, critic_warmup_steps=2))
    policy, critic = weights(loop.parts.policy), weights(loop.trained["critic"])
    loop.run()
    assert all(torch.equal(tensor, policy[name]) for name, tensor in weights(loop.parts.policy).items())
    assert any(not torch.equal(tensor, critic[name]) for name, tensor in weights(loop.trained["critic"]).items())


def test_kl_limits_stop_a_pass_and_the_run(tmp_path: Path) -> None:
    loop_for(tmp_path / "pass", section_for("ppo", epochs=1, max_step_kl=1e-9)).run()
    assert steps_of(tmp_path / "pass")[0]["passes"] == 2.0
    fit = loop_for(tmp_path / "run", section_for("reinforce", epochs=20, max_kl=0.02, kl_coefficient=0.0)).run()
    assert fit.stopped is not None and "above max_kl = 0.02" in fit.stopped and fit.steps < fit.planned_steps


def test_adaptive_coefficient_moves_once_a_batch(tmp_path: Path) -> None:
    """KL 0 in the first batch: β falls by clip(−1)·12/20·… = 0.2·12/20 = 12 %."""
    loop_for(tmp_path, section_for("ppo", epochs=1, kl_target=1.0, kl_horizon=20.0, minibatches=3)).run()
    assert [step["kl_coefficient"] for step in steps_of(tmp_path)] == [0.1, pytest.approx(0.088)]


def test_nan_stops_names_the_prompt_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    loop = loop_for(tmp_path, section_for("rloo", epochs=2))
    recomputed, calls = loop._recomputed, [0]

    def spoilt(*arguments: Any) -> Any:
        sample = recomputed(*arguments)
        calls[0] += 1
        if calls[0] == 2:
            sample.old[1].fill_(math.nan)
            spoilt.guilty = sample.batch.elements[1].prompt_id  # type: ignore[attr-defined]
        return sample

    loop._recomputed = spoilt  # type: ignore[method-assign]
    with pytest.raises(TrainingError) as fault:
        loop.run()
    assert f"in the batch of prompts {spoilt.guilty};" in str(fault.value)  # type: ignore[attr-defined]
    assert (tmp_path / "checkpoint" / "step-00000001" / "state.json").is_file()
