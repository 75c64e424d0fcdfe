"""What an evaluation is computed from, gathered from the run's stages into `evaluation.report.Evidence`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from constitutions.hashes import constitution_hash
from evaluation.anchor import read_anchor
from evaluation.form import SAFE_TWIN
from evaluation.intervals import Estimate, Resampling, proportion
from evaluation.judge_quality import JudgeQuality, read_judge_quality
from evaluation.report import (
    ConstitutionText,
    Evidence,
    JudgedSet,
    PrincipleText,
    Row,
    RunIdentity,
    ScoredReply,
    StageCost,
)
from flows.context import RunContext
from flows.stages import generate, train
from flows.stages.canaries import QUALITY
from flows.stages.judging import Judged, constitution_of, make_judge
from flows.stages.label import LABELS
from flows.stages.label import NAME as LABEL
from flows.stages.suites import (
    CHOICE,
    OPINION,
    Written,
    answered_items,
    harness_of,
    opinion_twins,
    scored_names,
    suites_of,
)
from judges.dataset import read_labels
from ratify.canonical import model_digest
from ratify.lineage import code_commit, now, versions
from ratify.run_store import Manifest
from ratify.types import Completion, Prompt

ANCHOR = "anchor/"
"""Begins the ids of scored lines of the anchor."""
SCORED_AGAIN = "new again"
"""The second scoring of the new policy, by this name among the scores."""


class Found(NamedTuple):
    """What the evaluation stage itself has measured so far."""

    prompts: list[Prompt]
    old: list[Completion]
    new: list[Completion]
    judged: Judged
    scores: Mapping[str, Mapping[str, Any]]
    """Completion id → model's name → its scores."""
    metrics: Mapping[str, Any]
    repeats: Sequence[Sequence[Completion]] = ()
    """The new policy sampled again, once a seed."""
    written: Mapping[str, Written] = {}
    """`old`, `new` and maybe `first` → their replies to the capability suite."""


def gather(context: RunContext, found: Found) -> Evidence:
    """Put everything together; what the run does not have stays absent."""
    settings, suites = context.config.evaluation, suites_of(context.config)
    names = scored_names(context.config) if any(suites) else {}
    return Evidence(
        identity=_identity(context),
        prompts=found.prompts,
        old=found.old,
        new=found.new,
        heldout=JudgedSet(labels=found.judged.labels, verdicts=found.judged.verdicts),
        training=_training_labels(context),
        properties=_truth(context, found),
        scored=list(_scored(found, "reference")),
        scored_first=list(_scored(found, "first")),
        rewards=_rewards(found),
        repeats=found.repeats,
        scored_again=_scored_again(found),
        capability=answered_items(suites, found.written, found.scores, names),
        sycophancy=opinion_twins(suites, found.scores, names),
        harness=harness_of(context.config),
        anchor_scored=_anchor_scored(found),
        safe_twins=(SAFE_TWIN, *settings.safe_twins),
        anchor=read_anchor(settings.anchor) if settings.anchor else (),
        constitution=_constitution(context),
        curves={stage: _curve(context.stage(stage).path) for stage in (train.REWARD_MODEL, settings.policy)},
        stages=[_cost(manifest) for manifest in _manifests(context)],
        stage_metrics=_stage_metrics(context),
        judges=_judges(context),
        how=Resampling(settings.confidence, settings.bootstrap_draws, context.config.run.seed),
    )


def _identity(context: RunContext) -> RunIdentity:
    config = context.config
    old = config.policy.trainable if config.policy.base_url else config.policy.model
    models = {"old": old, "new": str(train.trained_policy(context))}
    if config.judge.kind == "model":
        models["judge"] = config.judge.model
    models |= {f"judge {judge.name}": judge.model for judge in config.panel.judges if judge.kind == "model"}
    if config.reward_model.enabled:
        models["reward_model"] = str(train.trained_reward_model(context))
    return RunIdentity(
        run=config.run.name,
        round=context.round_number,
        finished=now(),
        judge=make_judge(context).fingerprint,
        models={role: f"{model} ({model_digest(model)[:12]})" for role, model in models.items()},
        seeds={"run": config.run.seed},
        code=code_commit(),
        packages=versions(),
    )


def _constitution(context: RunContext) -> ConstitutionText:
    constitution = constitution_of(context)
    return ConstitutionText(
        id=constitution.id,
        version=constitution.version,
        hash=constitution_hash(constitution),
        principles=tuple(
            PrincipleText(id=p.id, text=p.text, weight=p.weight, severity=p.severity, tier=p.tier or "")
            for p in constitution.active
        ),
    )


def _training_labels(context: RunContext) -> JudgedSet:
    """The labels that preference data was made of, with their verdicts."""
    labels = read_labels(context.stage(LABEL).path / LABELS)
    store = context.verdict_store()
    try:
        verdicts = store.get(key for label in labels for key in label.verdict_keys)
    finally:
        store.close()
    return JudgedSet(labels=labels, verdicts=list(verdicts.values()))


def _truth(context: RunContext, found: Found) -> Mapping[str, Mapping[str, bool]]:
    """The demo oracle's assessment of every reply, where the prompts belong to the demo's world."""
    if context.config.evaluation.world != "demo":
        return {}
    from demo.oracle import assess

    questions = {prompt.id: prompt.messages[-1].content for prompt in found.prompts}
    questions |= {prompt.id: prompt.messages[-1].content for prompt in generate.training_prompts(context)}
    repeats = [reply for repeat in found.repeats for reply in repeat]
    replies = [*found.old, *found.new, *repeats, *generate.training_completions(context)]
    return {reply.id: assess(questions[reply.prompt_id], reply.text)._asdict() for reply in replies}


def _scored(found: Found, other: str) -> Sequence[ScoredReply]:
    """Replies of the new policy under it and another one; those too long to score are left out."""
    return _scored_under_both({reply.id: found.scores.get(reply.id, {}) for reply in found.new}, other)


def _anchor_scored(found: Found) -> Sequence[ScoredReply]:
    """Lines of the anchor under both policies."""
    return _scored_under_both({name: row for name, row in found.scores.items() if name.startswith(ANCHOR)})


def _scored_under_both(scores: Mapping[str, Mapping[str, Any]], other: str = "reference") -> list[ScoredReply]:
    return [
        ScoredReply(
            completion_id=name,
            tokens=int(row["new"]["tokens"]),
            log_new=row["new"]["logprob"],
            log_reference=row[other]["logprob"],
            reference_tokens=int(row[other]["tokens"]),
        )
        for name, row in scores.items()
        if row.get("new") and row.get(other)
    ]


def _scored_again(found: Found) -> Mapping[str, float]:
    return {
        reply.id: row[SCORED_AGAIN]["logprob"]
        for reply in found.new
        if (row := found.scores.get(reply.id, {})).get(SCORED_AGAIN)
    }


def _rewards(found: Found) -> Mapping[str, float]:
    return {
        name: row["reward"]["reward"]
        for name, row in found.scores.items()
        if row.get("reward") and not name.startswith((ANCHOR, CHOICE, OPINION))
    }


def _curve(folder: Path) -> list[Row]:
    """The rows of a training stage's metrics.jsonl that belong to training steps."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row.get("phase") == "train"]


def _manifests(context: RunContext) -> list[Manifest]:
    names = (generate.NAME, LABEL, train.REWARD_MODEL, context.config.evaluation.policy)
    found = [context.stage(name).manifest() for name in names]
    return [manifest for manifest in found if manifest]


def _cost(manifest: Manifest) -> StageCost:
    metrics = manifest.metrics
    tokens = [metrics.get(f"{manifest.stage}.{part}/tokens/count") for part in ("train", "heldout")]
    return StageCost(
        stage=manifest.stage,
        seconds=manifest.seconds,
        calls=metrics.get(f"{manifest.stage}/calls/count"),
        prompt_tokens=metrics.get(f"{manifest.stage}/tokens/prompt"),
        completion_tokens=int(sum(filter(None, tokens))) or metrics.get(f"{manifest.stage}/tokens/completion"),
    )


def _judges(context: RunContext) -> dict[str, JudgeQuality]:
    """What labelling and this evaluation found out about the judge."""
    folders = {"training": context.stage(LABEL).path, "heldout": context.stage("evaluate").path}
    found = {name: read_judge_quality(folder / QUALITY) for name, folder in folders.items()}
    return {name: quality for name, quality in found.items() if quality}


def _stage_metrics(context: RunContext) -> dict[str, Estimate]:
    """The reward model's accuracy on prompts it was not trained on."""
    manifest = context.stage(train.REWARD_MODEL).manifest()
    metrics = manifest.metrics if manifest else {}
    accuracy, count = metrics.get("reward_model/validation/accuracy"), metrics.get("reward_model/validation/pairs")
    if accuracy is None or not count:
        return {}
    return {"reward_model/validation_accuracy/value": proportion(round(accuracy * count), int(count))}
