"""Stage `evaluate`: the new policy against the old one on held-out prompts, and the report.

Sampling, judging and scoring each leave their files as they go, so that a killed evaluation resumes. Files:
completions of the new policy in `new/` (with `evaluation.aa_seeds` those of the same policy again in `again-N/`),
scores in `scoring/`, `labels.parquet`, what the suites showed item by item (`capability.jsonl`, `sycophancy.jsonl`),
`report.json` (every figure), `gate.json` (may it be promoted?) and `report.html`.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from constitutions.hashes import constitution_hash
from evaluation.anchor import read_anchor
from evaluation.anchor_nll import MOST, REQUEST
from evaluation.gate_record import write_gate
from evaluation.html_report import write_html
from evaluation.report import write_report
from evaluation.summary import summarise
from flows.context import RunContext, files_identity
from flows.stages import generate, train
from flows.stages.evidence import ANCHOR, SCORED_AGAIN, Found, gather
from flows.stages.gate import judge_report
from flows.stages.generate import heldout_completions, heldout_prompts, heldout_sampling, sampling_metrics
from flows.stages.judging import Judged, constitution_of, make_judge
from flows.stages.label import LABELS
from flows.stages.label import NAME as LABEL
from flows.stages.panel_judging import check_panel, judge_by_all, panel_lineage, panel_summary
from flows.stages.score_row import score_row
from flows.stages.servers import policy_client
from flows.stages.stage import Metrics, Stage
from flows.stages.suites import (
    Written,
    answer_in_writing,
    check_suites,
    compared_models,
    score_rows,
    scored_names,
    suites_lineage,
    suites_of,
    written_answers,
)
from generation.sampling import Sampled, sample_completions
from judges.label_table import write_label_table
from judges.questions import Pair
from ratify.canonical import digest, model_digest
from ratify.config import Config
from ratify.files import write_records, write_text
from ratify.rounds import first_policy
from ratify.run_store import StageStore
from ratify.sections import OptimiserSection, PolicySection
from ratify.types import Completion, Message, Prompt
from training.spec import ScoreTask

NAME = "evaluate"
NEW = "new"
"""The policy after training, in completion ids."""
AGAIN = "again"
"""The same policy sampled with other seeds (A/A); with a number."""
SEED_STEP = 100_003
"""Between the seeds of repeats, so that no two samplings of a run share one."""


def _lineage(context: RunContext) -> dict[str, Any]:
    config = context.config
    earlier = [generate.NAME, LABEL, config.evaluation.policy] + [train.REWARD_MODEL] * config.reward_model.enabled
    return {
        "stages": {name: files_identity(context.manifest(name)) for name in earlier},
        "constitution": constitution_hash(constitution_of(context)),
        "judge": make_judge(context).fingerprint,
        **panel_lineage(context),
        "evaluation": config.evaluation.model_dump(mode="json"),
        "anchor": digest([*read_anchor(config.evaluation.anchor)]) if config.evaluation.anchor else None,
        **suites_lineage(config),
        "seed": config.run.seed,
    }


def _work(context: RunContext, stage: StageStore) -> Metrics:
    prompts, old = heldout_prompts(context), heldout_completions(context)
    sampled, repeats, written = asyncio.run(_sample_new(context, stage, prompts))
    written = _written_by_others(context, stage, written)
    judged = _judge(context, stage, prompts, old, sampled.completions)
    scores = _score(context, stage, prompts, [*old, *sampled.completions])
    metrics = sampling_metrics(f"{NAME}.sampling", sampled) | judged.metrics
    found = Found(prompts, old, sampled.completions, judged, scores, metrics, repeats, written)
    evidence = gather(context, found)
    for name, items in (("capability", evidence.capability), ("sycophancy", evidence.sycophancy)):
        if items:
            write_records(stage.path / f"{name}.jsonl", items)
    report = summarise(evidence)
    write_report(stage.path / "report.json", report)
    verdict = judge_report(context.config.run_dir, report, context.config)
    write_gate(stage.path / "gate.json", verdict)
    write_html(stage.path / "report.html", report, verdict)
    figures = {key: estimate.value for key, estimate in report.metrics.items()}
    return metrics | figures | report.counts | {f"{NAME}/gate/decision": verdict.decision}


async def _sample_new(
    context: RunContext, stage: StageStore, prompts: list[Prompt]
) -> tuple[Sampled, list[list[Completion]], dict[str, Written]]:
    """The new policy's replies; the same policy's with other seeds, if A/A is asked for; its answers to the suite."""
    policy, seed = new_policy(context.config, train.trained_policy(context)), context.config.run.seed
    async with policy_client(context, policy, log_path=stage.path / "policy.log") as client:

        async def once(name: str, seed: int, title: str) -> Sampled:
            with context.show(title) as progress:
                return await sample_completions(
                    prompts, client, heldout_sampling(context),
                    folder=stage.path / name, policy_name=name, seed=seed,
                    concurrency=policy.concurrency, token_ids=True, progress=progress,
                )  # fmt: skip

        sampled, wanted = await once(NEW, seed, "sampling the new policy"), context.config.evaluation.aa_seeds
        repeats = [
            await once(f"{AGAIN}-{number}", seed + SEED_STEP * number, f"sampling it again, {number} of {wanted}")
            for number in range(1, wanted + 1)
        ]
        written = {"new": await answer_in_writing(context, client, policy)}
    return sampled, [repeat.completions for repeat in repeats], written


def _written_by_others(context: RunContext, stage: StageStore, written: dict[str, Written]) -> dict[str, Written]:
    """With the old policy's answers to the capability suite, and the first one's where that is another."""
    config = context.config
    policies = {"old": config.policy}
    if first := compared_models(config).get("first"):
        policies["first"] = new_policy(config, Path(first))
    others = {
        name: written_answers(context, policy, stage.path / f"{name}-policy.log") for name, policy in policies.items()
    }
    return written | others


def new_policy(config: Config, folder: Path) -> PolicySection:
    """The policy's settings with the trained weights, always on a managed server."""
    return config.policy.model_copy(update={"model": str(folder), "base_url": None, "replicas": (), "train_from": None})


def _judge(
    context: RunContext, stage: StageStore, prompts: list[Prompt], old: list[Completion], new: list[Completion]
) -> Judged:
    by_id = {prompt.id: prompt for prompt in prompts}
    judged = judge_by_all(context, by_id, facing_pairs(old, new), log_path=stage.path / "judge.log", stage=NAME)
    write_label_table(stage.path / LABELS, judged.labelled)
    return judged


def facing_pairs(old: list[Completion], new: list[Completion]) -> list[Pair]:
    """The i-th old reply against the i-th new one of each prompt; identical texts stay, as they tie."""
    theirs: dict[str, list[Completion]] = {}
    for completion in old:
        theirs.setdefault(completion.prompt_id, []).append(completion)
    ours: dict[str, list[Completion]] = {}
    for completion in new:
        ours.setdefault(completion.prompt_id, []).append(completion)
    return [pair for prompt in theirs for pair in zip(theirs[prompt], ours.get(prompt, []), strict=False)]


def _score(
    context: RunContext, stage: StageStore, prompts: list[Prompt], completions: list[Completion]
) -> dict[str, dict[str, Any]]:
    """Log-probabilities under both policies and rewards, computed by a child process."""
    config, folder = context.config, stage.path / "scoring"
    rows = folder / "rows.jsonl"
    if not rows.exists():
        text = _score_rows(prompts, completions) + _anchor_rows(config.evaluation.anchor)
        write_text(rows, text + score_rows(suites_of(config)))
    models = {"new": str(train.trained_policy(context)), "reference": config.policy.trainable}
    first, suites = first_policy(config.run_dir), suites_of(config)
    if first and model_digest(first) != model_digest(config.policy.trainable):
        models["first"] = first
    if any(suites) and scored_names(config)["old"] == "old":
        models["old"] = compared_models(config)["old"]
    if config.reward_model.enabled:
        models["reward"] = str(train.trained_reward_model(context))
    shared = config.preference.model_dump(include=set(OptimiserSection.model_fields))
    spec = ScoreTask(
        section=OptimiserSection(**shared),
        models=models,
        again={SCORED_AGAIN: "new"} if config.evaluation.aa_seeds else {},
        data=rows,
        out=folder,
        temperature=config.sampling.temperature or 1.0,
    )
    result = train.run_task(context, spec, "scoring replies under both policies")
    lines = Path(result.scores or "").read_text(encoding="utf-8").splitlines()
    return {row.pop("id"): row for row in map(json.loads, lines)}


def _score_rows(prompts: list[Prompt], completions: list[Completion]) -> str:
    messages = {prompt.id: prompt.messages for prompt in prompts}
    return "".join(
        score_row(each.id, messages[each.prompt_id], each.text, each.finish_reason, each.token_ids)
        for each in completions
        if each.text.strip()
    )


def _anchor_rows(anchor: Path | None) -> str:
    """The anchor's lines as replies to one fixed request."""
    asked = [Message(role="user", content=REQUEST)]
    lines = read_anchor(anchor)[:MOST] if anchor else []
    return "".join(score_row(f"{ANCHOR}{number}", asked, line) for number, line in enumerate(lines))


def _summary(metrics: Metrics) -> str:
    return (
        f"win rate of the new policy {metrics['evaluate/win_rate.all/rate']:.1%}, "
        f"{metrics['evaluate/calls/count']:,} judge calls; the gate says {metrics['evaluate/gate/decision']}"
        + panel_summary(metrics)
    )


def _check(context: RunContext) -> None:
    check_suites(context)
    check_panel(context)


EVALUATE = Stage(NAME, "evaluating the new policy against the old one", _lineage, _work, _summary, _check)
