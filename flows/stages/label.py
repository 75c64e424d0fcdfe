"""Stage `label`: the judge applies the constitution to pairs of candidates, and decided labels become preference data.

Verdicts go into the run's verdict store as they are answered, so that a killed stage pays again only for what was in
flight. Files: `labels.parquet` (every label, ties and failures too) and `pairs.parquet` (what training reads); where
`labels.objectives` asks for it, `objectives-by-tier.parquet` or `objectives-by-tag.parquet` (one soft label per
objective) and `objectives/tier=NAME/pairs.parquet` (what a reward model for that objective reads).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from constitutions.hashes import constitution_hash
from constitutions.schema import Constitution
from flows.context import RunContext, files_identity
from flows.stages import generate
from flows.stages.block_judging import BlockJudging
from flows.stages.canaries import gold_lineage, judge_summary
from flows.stages.judging import DECIDED, constitution_of, make_judge
from flows.stages.pair_blocks import Block, Sheets, blocks_of
from flows.stages.panel_judging import check_panel, judge_by_panel, panel_lineage, panel_summary
from flows.stages.stage import Metrics, Stage
from judges.dataset import TableWriter, writing_table
from judges.label_table import label_rows, objective_rows, verdict_keys
from judges.labels import Labelled, split_labels
from judges.pairs import draw_pairs
from judges.preference_table import PairCounts, preference_rows
from ratify.errors import InputError
from ratify.prompt_file import PromptFile
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
    whole = _judged_by_panel if config.panel.judges else _judged
    with writing_labels(stage.path, constitution_of(context)) as files:
        metrics = whole(context, stage, files)
        counts, identical = files.counts, metrics["label/identical/count"]
        if not counts.pairs:
            raise InputError(
                f"no pair was decided: {counts.ties} ties, {counts.failed} failures, {identical} pairs of "
                "identical replies; sample more candidates, raise sampling.temperature or lower the constitution's "
                "aggregate.min_margin"
            )
    return metrics


def training_blocks(context: RunContext) -> Callable[[], Iterator[Block]]:
    """What goes through the pairs of this round, in the order of the candidates, and holds a block at a time."""
    prompts = PromptFile(context.config.prompts.train)
    return lambda: blocks_of(context, prompts, generate.stream_training_completions(context))


def _judged(context: RunContext, stage: StageStore, files: LabelFiles) -> Metrics:
    """One judge, block by block."""
    per_pair = context.config.labels.principles_per_pair or 0
    sheets = Sheets(training_blocks(context), constitution_of(context), make_judge(context), per_pair)
    judging = BlockJudging(context, sheets, log_path=stage.path / "server.log")
    judging.listen()
    for block, found in judging.labels():
        _add(context, files, found, block.prompts)
    return judging.close() | _metrics(files.counts, sheets.pairs, sheets.identical)


def _judged_by_panel(context: RunContext, stage: StageStore, files: LabelFiles) -> Metrics:
    """A panel, whose judges' verdicts are all in memory."""
    config = context.config
    prompts = {prompt.id: prompt for prompt in generate.training_prompts(context)}
    completions = generate.training_completions(context)
    drawn = draw_pairs(completions, config.labels.pairs_per_prompt, config.run.seed)
    judged = judge_by_panel(
        context, prompts, drawn.pairs,
        log_path=stage.path / "server.log", stage=NAME, per_pair=config.labels.principles_per_pair or 0,
    )  # fmt: skip
    _add(context, files, judged.labelled, prompts)
    return judged.metrics | _metrics(files.counts, len(drawn.pairs), drawn.identical)


def _add(context: RunContext, files: LabelFiles, found: Labelled, prompts: Mapping[str, Prompt]) -> None:
    constitution, protocol = constitution_of(context), context.config.judge.verdict_protocol
    files.add(found, prompts)
    for by in context.config.labels.objectives:
        files.add_objectives(split_labels(found, constitution, protocol, by), by, prompts)


class LabelFiles:
    """What labelling leaves, written as labels come."""

    def __init__(self, folder: Path, constitution: Constitution, opened: ExitStack) -> None:
        self._folder = folder
        self._constitution = constitution_hash(constitution)
        self._opened = opened
        self._tables: dict[str, TableWriter] = {}
        self.counts = PairCounts(0, 0, 0, 0, 0)
        """What became of the labels so far."""

    def add(self, labelled: Labelled, prompts: Mapping[str, Prompt]) -> None:
        """Add labels and the preference data that follow from them; `prompts` is by id."""
        keys = verdict_keys(labelled)
        rows, counts = preference_rows(labelled, prompts, self._constitution, keys)
        self._write(LABELS, label_rows(labelled, keys))
        self._write(PAIRS, rows)
        self.counts = self.counts.plus(counts)

    def add_objectives(self, split: Mapping[str, Labelled], by: str, prompts: Mapping[str, Prompt]) -> None:
        """Add the soft labels by objective, and each objective's own preference data."""
        if split:
            self._write(objectives_table(by), objective_rows(split))
        for name, found in split.items():
            rows, _ = preference_rows(found, prompts, self._constitution, verdict_keys(found))
            self._write(objective_pairs(f"{by}={name}"), rows)

    def _write(self, name: str, rows: pa.Table) -> None:
        if name not in self._tables:
            self._tables[name] = self._opened.enter_context(writing_table(self._folder / name, rows.schema))
        self._tables[name].add(rows)


@contextmanager
def writing_labels(folder: Path, constitution: Constitution) -> Iterator[LabelFiles]:
    """Files that are all there, whole, when the context ends without an error."""
    with ExitStack() as opened:
        yield LabelFiles(folder, constitution, opened)


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
