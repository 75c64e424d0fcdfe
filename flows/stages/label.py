"""Stage `label`: the judge applies the constitution to pairs of candidates, and decided labels become preference data.

Verdicts go into the run's verdict store as they are answered, so that a killed stage pays again only for what was in
flight. Files: `labels.parquet` (every label, ties and failures too) and `pairs.parquet` (what training reads); where
`labels.objectives` asks for it, `objectives-by-tier.parquet` or `objectives-by-tag.parquet` (one soft label per
objective) and `objectives/tier=NAME/pairs.parquet` (what a reward model for that objective reads).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from constitutions.hashes import constitution_hash
from constitutions.schema import Constitution
from flows.context import RunContext, files_identity
from flows.stages import generate
from flows.stages.canaries import gold_lineage, judge_summary
from flows.stages.judging import DECIDED, constitution_of, judge_pairs, make_judge
from flows.stages.panel_judging import check_panel, judge_by_panel, panel_lineage, panel_summary
from flows.stages.stage import Metrics, Stage
from judges.label_table import verdict_keys, write_label_table, write_objectives
from judges.labels import Labelled, split_labels
from judges.pairs import draw_pairs
from judges.preference_table import PairCounts, write_preferences
from ratify.errors import InputError
from ratify.run_store import StageStore
from ratify.types import Prompt

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
        **gold_lineage(context),
        **panel_lineage(context),
    }


def _work(context: RunContext, stage: StageStore) -> Metrics:
    config = context.config
    prompts = {prompt.id: prompt for prompt in generate.training_prompts(context)}
    completions = generate.training_completions(context)
    drawn = draw_pairs(completions, config.labels.pairs_per_prompt, config.run.seed)
    judge = judge_by_panel if config.panel.judges else judge_pairs
    judged = judge(
        context, prompts, drawn.pairs,
        log_path=stage.path / "server.log", stage=NAME, per_pair=config.labels.principles_per_pair or 0,
    )  # fmt: skip
    constitution = constitution_of(context)
    counts = write_label_files(stage.path, judged.labelled, prompts, constitution)
    if counts.pairs:
        for by in config.labels.objectives:
            split = split_labels(judged.labelled, constitution, config.judge.protocol, by)
            write_objective_files(stage.path, split, by, prompts, constitution)
    else:
        raise InputError(
            f"no pair was decided: {counts.ties} ties, {counts.failed} failures, {drawn.identical} pairs of "
            "identical replies; sample more candidates, raise sampling.temperature or lower the constitution's "
            "aggregate.min_margin"
        )
    return judged.metrics | _metrics(counts, len(drawn.pairs), drawn.identical)


def write_label_files(
    folder: Path, labelled: Labelled, prompts: Mapping[str, Prompt], constitution: Constitution
) -> PairCounts:
    """Write every label and the preference data that follow from them; `prompts` is by id."""
    keys = verdict_keys(labelled)
    write_label_table(folder / LABELS, labelled, keys)
    return write_preferences(folder / PAIRS, labelled, prompts, constitution_hash(constitution), keys)


def write_objective_files(
    folder: Path, split: Mapping[str, Labelled], by: str, prompts: Mapping[str, Prompt], constitution: Constitution
) -> None:
    """Write the table of soft labels by objective, and each objective's own preference data."""
    if not split:
        return
    write_objectives(folder / objectives_table(by), split)
    for name, labelled in split.items():
        path = folder / objective_pairs(f"{by}={name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_preferences(path, labelled, prompts, constitution_hash(constitution))


def objectives_table(by: str) -> str:
    """The file of soft labels per tier or per tag."""
    return f"objectives-by-{by}.parquet"


def objective_pairs(objective: str) -> str:
    """The preference data of an objective such as `tier=safety`; a tag's special characters are written as in a URL."""
    return f"objectives/{quote(objective, safe='= ')}/{PAIRS}"


def _metrics(counts: PairCounts, labels: int, identical: int) -> Metrics:
    return {
        "label/labels/count": labels,
        "label/pairs/count": counts.pairs,
        "label/ties/count": counts.ties,
        "label/failed/count": counts.failed,
        "label/identical/count": identical,
        "label/empty/count": counts.empty,
    }


def _summary(metrics: Metrics) -> str:
    decided = metrics.get(DECIDED, 0)
    more = [f", {decided:,} views decided by checks"] if decided else []
    more += [f", {value:,.2f} {key.rpartition('/')[2]}" for key, value in metrics.items() if "/money/" in key]
    return (
        f"{metrics['label/pairs/count']:,} preference pairs from {metrics['label/labels/count']:,} labels "
        f"({metrics['label/ties/count']:,} ties, {metrics['label/failed/count']:,} failed), "
        f"{metrics['label/calls/count']:,} judge calls, {metrics['label/verdicts/reused']:,} verdicts reused"
        + "".join(more)
        + judge_summary(metrics)
        + panel_summary(metrics)
    )


LABEL = Stage(
    NAME,
    "judging the replies by the constitution",
    _lineage,
    _work,
    _summary,
    check_panel,
    needs_device=lambda config: (
        bool(config.panel.judges) or (config.judge.kind == "model" and not config.judge.base_url)
    ),
)
