"""The task `policy_gradient`: PPO and its kin on prompts, with rewards from models and functions.

Builds what `rollout_loop` runs: policy, frozen reference, critic, sampler, reward sources. Left out: what a judge says,
which another process answers (`asked_rewards`), and other samplers, which a caller in this process hands in (`Extras`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from torch import nn
from transformers import PreTrainedModel

from ratify.errors import InputError
from ratify.policy_gradient_section import (
    AnyReward,
    AskedReward,
    ChecksSpec,
    JudgeSpec,
    ModelRewardSpec,
    PolicyGradientSection,
)
from training.adapters import merged, save_trained
from training.asked_rewards import AskedRewards
from training.data import Element
from training.encoding import Encoder
from training.engine import Engine
from training.layout import check_logits, choose_layout
from training.models import context_limit, load_encoder, parameters, write_folder
from training.result import TrainResult
from training.rewards import Ensemble, FunctionReward, GroupJudgeReward, JudgeReward, Mixture, ModelReward, RewardSource
from training.roles import Roles, roles_for
from training.rollout_loop import Parts, RolloutLoop
from training.rollouts import PromptItem, Sampler, TransformersSampler, stop_tokens
from training.rows import read_prompts
from training.scorers import PolicyScorer, RewardScorer, ValueScorer
from training.served_sampler import ServedSampler
from training.spec import PolicyGradientTask
from training.supervised import load_supervised
from training.tree import Layout
from training.verifiable import exact_answer, length_within, pattern_found

RECENT_STEPS = 5
"""Last steps over which the result averages training's own metrics."""
REPORTED = ("loss", "reward", "kl", "kl_coefficient", "entropy", "scored", "finished", "completion_tokens",
            "sampler_ratio", "sampler_ratio_max")  # fmt: skip


class Extras(NamedTuple):
    """What a caller in the same process may hand in."""

    source: RewardSource | None = None
    """Instead of the section's rewards, such as a judge."""
    sampler: Sampler | None = None
    """Instead of transformers, such as a vLLM server that takes new weights."""


NOTHING = Extras()


def train_policy_gradient(
    spec: PolicyGradientTask, fingerprint: str, extras: Extras = NOTHING
) -> tuple[Engine, TrainResult]:
    """Train, save a Hugging Face folder that vLLM serves under `spec.out / "model"`, and PPO's critic under `critic`.

    Raises:
        InputError: bad prompts or models, no reward, or a reward model with another tokenizer.
        TrainingError: see `RolloutLoop.run`.
    """
    section = spec.section
    encoder = load_encoder(spec.model)
    items, dropped = load_items(spec.data, encoder, section, context_limit(spec.model, section.max_length))
    engine = Engine(section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    roles = roles_for(spec.model, encoder, spec.seed, section.lora)
    policy = roles.policy
    scorer = PolicyScorer(policy, spec.temperature, entropy=section.entropy_weight > 0)
    check_logits(scorer)
    source, reward_models = _source(spec, engine, encoder, roles, extras)
    critic = _critic(spec, encoder, roles) if section.uses_critic else None
    engine.layout = _layout([policy, roles.reference, *reward_models, *([critic] if critic else [])], section)
    sampler = extras.sampler or _sampler(spec, engine, policy, encoder)
    parts = Parts(
        policy=scorer,
        reference=PolicyScorer(roles.reference, spec.temperature).requires_grad_(False),
        critic=ValueScorer(critic) if critic else None,
        sampler=sampler,
        source=source,
        items=items,
        text=functools.partial(_text, encoder),
        pretraining=_pretraining(section, encoder),
    )
    fit = RolloutLoop(engine, section, parts).run()
    metrics = {
        **engine.log.recent_means(REPORTED, RECENT_STEPS),
        "train/prompts": len(items),
        "dropped_prompts": dropped,
        "parameters": parameters(policy),
        **fit.metrics(),
    }
    folder = spec.out / "model"
    if engine.is_main:
        if critic is not None:
            save_trained(critic, spec.model, encoder, spec.out / "critic", section.lora)
        save_trained(policy, spec.model, encoder, folder, section.lora)
    result = TrainResult(
        task=spec.task,
        fingerprint=fingerprint,
        model=str(folder),
        metrics=metrics,
        layout=engine.layout,
        stopped_early=fit.stopped,
    )
    return engine, result


def _sampler(spec: PolicyGradientTask, engine: Engine, policy: PreTrainedModel, encoder: Encoder) -> Sampler:
    section, stops = spec.section, stop_tokens(encoder, policy)
    if section.sampler == "vllm":

        def write(folder: Path) -> None:
            write_folder(merged(policy) if section.lora else policy, spec.model, encoder, folder)

        return ServedSampler(
            spec.rollouts,
            write if engine.is_main else None,
            stops,
            max_tokens=section.max_tokens,
            temperature=spec.temperature,
        )
    return TransformersSampler(
        policy, stops, max_tokens=section.max_tokens, temperature=spec.temperature, batch=section.sampling_batch
    )


def load_items(
    path: Path, encoder: Encoder, section: PolicyGradientSection, limit: int | None = None
) -> tuple[list[PromptItem], int]:
    """Prompts that leave room for a completion within `limit` or `max_length` tokens, and how many were dropped.

    Raises:
        InputError: a bad row, no row, none that fits, or an exact answer is asked for and no row has one.
    """
    rows = read_prompts(path)
    tokens = encoder.prompts([row.prompt for row in rows])
    items = [
        PromptItem(row.prompt_id or f"row {row.place.line}", row.prompt, tuple(ids), row.answer)
        for row, ids in zip(rows, tokens, strict=True)
    ]
    room = (limit or section.max_length) - section.max_tokens
    fitting = [item for item in items if len(item.tokens) <= room]
    if not fitting:
        raise InputError(
            f"{path}: all {len(items)} prompts are longer than {room} tokens, which max_length less max_tokens leaves; "
            "raise policy_gradient.max_length"
        )
    asked = any(reward.kind == "exact_answer" for reward in section.rewards)
    if asked and not any(item.answer is not None for item in fitting):
        raise InputError(f"{path}: a reward is 'exact_answer' and no row has an `answer`; add the column")
    return fitting, len(items) - len(fitting)


def _text(encoder: Encoder, tokens: Sequence[int]) -> str:
    return str(encoder.tokenizer.decode(list(tokens), skip_special_tokens=True))


def _pretraining(section: PolicyGradientSection, encoder: Encoder) -> list[Element]:
    if section.pretraining_data is None:
        return []
    return load_supervised(section.pretraining_data, encoder, section.max_length)[0]


def _layout(models: Sequence[PreTrainedModel], section: PolicyGradientSection) -> Layout:
    """The first layout that every model can take, for they read the same batches."""
    found = [choose_layout(model, section.layout, section.max_length) for model in models]
    return max(found, key=get_args(Layout).index)


def _source(
    spec: PolicyGradientTask, engine: Engine, encoder: Encoder, roles: Roles, extras: Extras
) -> tuple[RewardSource, list[PreTrainedModel]]:
    """The section's rewards as one source, and the reward models among them."""
    if extras.source is not None:
        return extras.source, []
    section = spec.section
    specs: Sequence[AnyReward] = section.rewards or (ModelRewardSpec(),)
    sources = [_reward(reward, spec, engine, encoder, roles) for reward in specs]
    models = list(roles.rewards.values())
    if len(sources) == 1 and specs[0].weight == 1.0:
        return sources[0], models
    mixture = Mixture(
        sources,
        [reward.weight for reward in specs],
        [reward.at_least for reward in specs],
        combine=section.combine_rewards,
        dual_learning_rate=section.dual_learning_rate,
    )
    return mixture, models


def _reward(
    reward: AnyReward, spec: PolicyGradientTask, engine: Engine, encoder: Encoder, roles: Roles
) -> RewardSource:
    if reward.kind == "exact_answer":
        return FunctionReward(reward.name, functools.partial(exact_answer, reward))
    if reward.kind == "regex":
        return FunctionReward(reward.name, functools.partial(pattern_found, reward))
    if reward.kind == "length":
        return FunctionReward(reward.name, functools.partial(length_within, reward))
    if isinstance(reward, JudgeSpec | ChecksSpec):
        return _asked_reward(reward, spec, engine)
    folders = reward.models or spec.reward_models
    if not folders:
        raise InputError(
            "policy_gradient.rewards names no reward model and the task was given none; train one, name its folder in "
            "`models`, or use a reward of kind exact_answer, regex or length"
        )
    members = [_model_reward(f"{reward.name}", folder, engine, encoder, roles) for folder in folders]
    if len(members) == 1:
        return members[0]
    return Ensemble(reward.name, members, reward.combine, reward.penalty)


def _asked_reward(reward: AskedReward, spec: PolicyGradientTask, engine: Engine) -> RewardSource:
    if spec.judge is None:
        raise InputError(
            f"reward {reward.name!r} is answered by the stage `policy_gradient` of a run, which starts the judge; "
            "train with `ratify train CONFIG`"
        )
    asked = AskedRewards(spec.judge.socket, engine.accelerator)
    if reward.kind == "judge" and reward.compares:
        return GroupJudgeReward(reward.name, functools.partial(asked.probabilities, reward.name))
    return JudgeReward(reward.name, functools.partial(asked.scores, reward.name))


def _model_reward(name: str, folder: str, engine: Engine, encoder: Encoder, roles: Roles) -> ModelReward:
    if folder not in roles.rewards:
        _same_tokens(encoder, folder)
    scorer: nn.Module = engine.prepare(RewardScorer(roles.reward(folder)))
    return ModelReward(name, engine, scorer)


def _same_tokens(encoder: Encoder, folder: str) -> None:
    """A reward model and a critic read the very tokens that the policy wrote."""
    if load_encoder(folder).tokenizer.get_vocab() != encoder.tokenizer.get_vocab():
        raise InputError(
            f"reward model {folder} has another tokenizer than policy {encoder.model}; train it from that policy "
            "(reward_model.init_from) so that both read the same tokens"
        )


def _critic(spec: PolicyGradientTask, encoder: Encoder, roles: Roles) -> PreTrainedModel:
    """The reward model where there is one that it can start from, else the policy."""
    named = _reward_folders(spec)
    start = spec.section.critic_from
    if start is None:
        start = "reward_model" if len(named) == 1 and roles.can_start_critic(named[0]) else "policy"
    if start == "policy":
        return roles.critic(None)
    if not named:
        raise InputError("policy_gradient.critic_from = 'reward_model' and there is none; set it to 'policy'")
    _same_tokens(encoder, named[0])
    return roles.critic(named[0])


def _reward_folders(spec: PolicyGradientTask) -> list[str]:
    rewards = spec.section.rewards or (ModelRewardSpec(),)
    found = [folder for reward in rewards if reward.kind == "model" for folder in reward.models or spec.reward_models]
    return list(dict.fromkeys(found))
