"""Stages `reward_model` and `policy`, which learn from the same preference pairs, and `supervised`, which learns from
revisions; each in a child process.

What a child writes (weights, metrics, result) lies in the stage's folder; the trained model is its `model/` folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from flows.context import RunContext
from flows.stages import revised
from flows.stages.label import NAME as LABEL
from flows.stages.label import PAIRS, objective_pairs
from flows.stages.stage import Metrics, Stage, StageGroup
from flows.stages.training_data import preference_data
from generation.model_folder import check_model
from ratify.canonical import model_digest
from ratify.errors import InputError
from ratify.progress import Progress
from ratify.run_store import StageStore
from ratify.sections import OptimiserSection
from training.cost import COST_PHASE, sentence
from training.devices import check_devices, devices_of
from training.launch import launch
from training.result import TrainResult
from training.spec import KNOBS, PreferenceTask, RewardModelTask, SupervisedTask, TrainSpec

REWARD_MODEL = "reward_model"
POLICY = "policy"
SUPERVISED = "supervised"


def trained_policy(context: RunContext) -> Path:
    """The folder of this round's new policy, of the stage that `evaluation.policy` names."""
    return context.stage(context.config.evaluation.policy).path / "model"


def trained_reward_model(context: RunContext) -> Path:
    """The folder of this round's reward model."""
    return context.stage(REWARD_MODEL).path / "model"


def run_task(context: RunContext, spec: TrainSpec, title: str) -> TrainResult:
    """Run a training task in its child process, with progress."""
    with context.show(title) as progress:
        return launch(spec, _reporter(progress))


def _reporter(progress: Progress) -> Any:
    def report(step: int, steps: int, metrics: Mapping[str, object]) -> None:
        if metrics.get("phase") == COST_PHASE:
            progress.say(sentence(metrics))
            return
        names = ("reward", "kl") if "kl_coefficient" in metrics else ("loss", "accuracy")
        shown = [f"{name} {metrics[name]:.3f}" for name in names if name in metrics]
        phase = str(metrics.get("phase", "")).strip()
        progress.update(step, steps, " ".join([phase, *shown]).strip())

    return report


def _reward_data(context: RunContext) -> str:
    """The preference data that the reward model learns from, in the folder of the stage `label`.

    Raises:
        InputError: the constitution has no such objective.
    """
    objective = context.config.reward_model.objective
    if objective is None:
        return PAIRS
    name, files = objective_pairs(objective), context.manifest(LABEL).files
    if name not in files:
        known = sorted(unquote(each.split("/")[1]) for each in files if each.startswith("objectives/"))
        raise InputError(
            f"reward_model.objective is {objective!r}, which the constitution does not have; it has: {', '.join(known)}"
        )
    return name


def _lineage(context: RunContext, section: Mapping[str, Any], data: str = PAIRS) -> dict[str, Any]:
    config = context.config
    return {
        "pairs": preference_data(context, data)[1],
        "policy": model_digest(config.policy.trainable),
        "section": {key: value for key, value in section.items() if key not in KNOBS},
        "temperature": config.sampling.temperature,
        "seed": config.run.seed,
    }


def _check(context: RunContext, task: str, section: OptimiserSection) -> None:
    check_model(context.config.policy.trainable, section="policy")
    check_devices(task, section)


def _reward_model_task(context: RunContext, out: Path) -> RewardModelTask:
    return RewardModelTask(
        section=context.config.reward_model,
        model=context.config.policy.trainable,
        data=preference_data(context, _reward_data(context))[0],
        out=out,
        seed=context.config.run.seed,
    )


def _train_reward_model(context: RunContext, stage: StageStore) -> Metrics:
    spec = _reward_model_task(context, stage.path)
    return _named(REWARD_MODEL, run_task(context, spec, "training the reward model").metrics)


def _policy_task(context: RunContext, out: Path) -> PreferenceTask:
    return PreferenceTask(
        section=context.config.preference,
        model=context.config.policy.trainable,
        data=preference_data(context)[0],
        out=out,
        seed=context.config.run.seed,
        temperature=context.config.sampling.temperature or 1.0,
    )


def _train_policy(context: RunContext, stage: StageStore) -> Metrics:
    return _named(POLICY, run_task(context, _policy_task(context, stage.path), "training the policy").metrics)


def _supervised_lineage(context: RunContext) -> dict[str, Any]:
    config = context.config
    return {
        "rows": context.manifest(revised.NAME).files[revised.SUPERVISED],
        "policy": model_digest(config.policy.trainable),
        "section": {key: value for key, value in config.supervised.model_dump(mode="json").items() if key not in KNOBS},
        "temperature": config.sampling.temperature,
        "seed": config.run.seed,
    }


def _train_supervised(context: RunContext, stage: StageStore) -> Metrics:
    if not context.manifest(revised.NAME).metrics[f"{revised.NAME}/supervised/count"]:
        kept = context.config.revision.keep
        raise InputError(
            f"no revision is left to learn from (revision.keep = '{kept}'): see how they were judged "
            f"in {context.stage(revised.NAME).path / revised.REPORT}, or choose revision.keep = 'not_worse' or 'all'"
        )
    spec = _supervised_task(context, stage.path)
    return _named(SUPERVISED, run_task(context, spec, "fine-tuning on the revisions").metrics)


def _supervised_task(context: RunContext, out: Path) -> SupervisedTask:
    config = context.config
    return SupervisedTask(
        section=config.supervised,
        model=config.policy.trainable,
        data=context.stage(revised.NAME).path / revised.SUPERVISED,
        out=out,
        seed=config.run.seed,
        temperature=config.sampling.temperature or 1.0,
    )


def _named(stage: str, metrics: Mapping[str, Any]) -> Metrics:
    return {f"{stage}/{key}" if not key.startswith(f"{stage}/") else key: value for key, value in metrics.items()}


def _speed(stage: str, metrics: Metrics) -> str:
    """Speed at the end of a summary; nothing for a stage that a checkpoint had already finished."""
    reached = metrics.get(f"{stage}/train/gflops_per_s")
    if reached is None:
        return ""
    share = metrics.get(f"{stage}/train/flop_utilisation")
    of_peak = f", {share:.0%} of the device's peak" if share is not None else ""
    return f"; {metrics[f'{stage}/train/tokens_per_s']:,.0f} tokens/s, {reached:,.1f} GFLOP/s{of_peak}"


def _reward_summary(metrics: Metrics) -> str:
    return (
        f"it prefers what the judge prefers on {metrics['reward_model/validation/accuracy']:.1%} of "
        f"{metrics['reward_model/validation/pairs']:,.0f} pairs of prompts kept aside "
        f"({metrics['reward_model/validation/accuracy_before']:.1%} before){_speed(REWARD_MODEL, metrics)}"
    )


def _policy_summary(metrics: Metrics) -> str:
    return (
        f"{metrics['policy/steps']:.0f} of {metrics['policy/planned_steps']:.0f} steps on "
        f"{metrics['policy/train/pairs']:,.0f} pairs, last loss {metrics['policy/train/loss']:.3f}, "
        f"KL {metrics['policy/train/kl']:.2f} nats per reply{_speed(POLICY, metrics)}"
    )


def _supervised_summary(metrics: Metrics) -> str:
    return (
        f"{metrics['supervised/train/completions']:,.0f} revisions, loss on prompts kept aside "
        f"{metrics['supervised/validation/loss']:.3f} nats per token "
        f"({metrics['supervised/validation/loss_before']:.3f} before){_speed(SUPERVISED, metrics)}"
    )


TRAIN_REWARD_MODEL = Stage(
    REWARD_MODEL,
    "training the reward model",
    lambda context: _lineage(context, context.config.reward_model.model_dump(mode="json"), _reward_data(context)),
    _train_reward_model,
    _reward_summary,
    lambda context: _check(context, REWARD_MODEL, context.config.reward_model),
    wanted=lambda context: context.config.reward_model.enabled,
)
TRAIN_POLICY = Stage(
    POLICY,
    "training the policy",
    lambda context: _lineage(context, context.config.preference.model_dump(mode="json")),
    _train_policy,
    _policy_summary,
    lambda context: _check(context, "preference", context.config.preference),
    wanted=lambda context: context.config.preference.enabled,
)
TRAIN_SUPERVISED = Stage(
    SUPERVISED,
    "fine-tuning the policy on the revisions",
    _supervised_lineage,
    _train_supervised,
    _supervised_summary,
    lambda context: _check(context, SUPERVISED, context.config.supervised),
    wanted=lambda context: context.config.supervised.enabled,
)


class Joinable(NamedTuple):
    """A training that further machines can take part in."""

    section: Callable[[RunContext], OptimiserSection]
    task: Callable[[RunContext, Path], TrainSpec]
    """From the round and the stage's folder. Raises StoreError when an earlier stage is not finished."""


JOINABLE: Mapping[str, Joinable] = {
    REWARD_MODEL: Joinable(lambda context: context.config.reward_model, _reward_model_task),
    POLICY: Joinable(lambda context: context.config.preference, _policy_task),
    SUPERVISED: Joinable(lambda context: context.config.supervised, _supervised_task),
}
"""By the name of the stage."""


def on_several_machines(context: RunContext, stages: StageGroup) -> list[Stage]:
    """The stages of a group that train on more than one machine."""
    found = [stage for stage in stages.wanted(context) if stage.name in JOINABLE]
    return [stage for stage in found if devices_of(JOINABLE[stage.name].section(context)).machines > 1]
