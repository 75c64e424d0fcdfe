"""Stage `label`: the judge applies the constitution to pairs of candidates, and decided labels become preference data.

Verdicts go into the run's verdict store as they are answered, so that a killed stage pays again only for what was in
flight. Files: `labels.parquet` (every label, ties and failures too) and `pairs.parquet` (what training reads).
"""

from __future__ import annotations

from typing import Any

from constitutions.hashes import constitution_hash
from flows.context import RunContext, files_identity
from flows.stages import generate
from flows.stages.judging import check_judge, constitution_of, judge_pairs, make_judge
from flows.stages.stage import Metrics, Stage
from judges.dataset import Dataset, build_dataset, write_labels, write_pairs
from judges.pairs import draw_pairs
from ratify.errors import InputError
from ratify.run_store import StageStore
from ratify.types import Label

NAME = "label"
LABELS = "labels.parquet"
PAIRS = "pairs.parquet"


def _lineage(context: RunContext) -> dict[str, Any]:
    return {
        "completions": files_identity(context.manifest(generate.NAME)),
        "constitution": constitution_hash(constitution_of(context)),
        "judge": make_judge(context).fingerprint,
        "labels": context.config.labels.model_dump(mode="json"),
        "seed": context.config.run.seed,
    }


def _work(context: RunContext, stage: StageStore) -> Metrics:
    config = context.config
    prompts = {prompt.id: prompt for prompt in generate.training_prompts(context)}
    completions = generate.training_completions(context)
    drawn = draw_pairs(completions, config.labels.pairs_per_prompt, config.run.seed)
    judged = judge_pairs(context, prompts, drawn.pairs, log_path=stage.path / "server.log", stage=NAME)
    constitution = constitution_hash(constitution_of(context))
    dataset = build_dataset(judged.labels, prompts, {c.id: c for c in completions}, constitution)
    write_labels(stage.path / LABELS, judged.labels)
    write_pairs(stage.path / PAIRS, dataset.pairs)
    if not dataset.pairs:
        raise InputError(
            f"no pair was decided: {dataset.ties} ties, {dataset.failed} failures, {drawn.identical} pairs of "
            "identical replies; sample more candidates, raise sampling.temperature or lower the constitution's "
            "aggregate.min_margin"
        )
    return judged.metrics | _counts(dataset, judged.labels, drawn.identical)


def _counts(dataset: Dataset, labels: list[Label], identical: int) -> Metrics:
    return {
        "label/labels/count": len(labels),
        "label/pairs/count": len(dataset.pairs),
        "label/ties/count": dataset.ties,
        "label/failed/count": dataset.failed,
        "label/identical/count": identical,
        "label/empty/count": dataset.empty,
    }


def _summary(metrics: Metrics) -> str:
    return (
        f"{metrics['label/pairs/count']:,} preference pairs from {metrics['label/labels/count']:,} labels "
        f"({metrics['label/ties/count']:,} ties, {metrics['label/failed/count']:,} failed), "
        f"{metrics['label/calls/count']:,} judge calls, {metrics['label/verdicts/reused']:,} verdicts reused"
    )


LABEL = Stage(NAME, "judging the replies by the constitution", _lineage, _work, _summary, check_judge)
