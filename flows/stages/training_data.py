"""Stage `data`: what this round trains on, by `rounds.data`; under `replace` the label stage's own file is.

Reads the label stages of this round and, where asked, of all before it, and people's pairs in the formats of TRL's
trainers. Pairs of people whose prompt is an evaluation prompt are left out as training prompts are. File:
`pairs.parquet`, each id with the name of its source in front.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.context import RunContext
from flows.stages.label import NAME as LABEL
from flows.stages.label import PAIRS
from flows.stages.selection import contaminated_ids
from flows.stages.stage import Metrics, Stage
from judges.data_policies import accumulated, mixed_with, named, sources, subsampled
from judges.dataset import PAIR_COLUMNS, write_table
from ratify.canonical import digest, file_digest
from ratify.errors import StoreError
from ratify.run_store import Manifest, StageStore
from ratify.types import Message, Prompt
from training.rows import PreferenceRow, read_preferences
from training.spec import data_files

NAME = "data"
REFERENCE = "reference"
"""The source of people's pairs, in ids and metrics."""


def preference_data(context: RunContext, name: str = PAIRS) -> tuple[Path, str]:
    """The pairs that this round trains on, and their hash.

    Raises:
        StoreError: the stage that makes them is not finished.
    """
    stage = LABEL if context.config.rounds.data == "replace" else NAME
    return context.stage(stage).path / name, context.manifest(stage).files[name]


def _earlier(context: RunContext) -> dict[str, Manifest]:
    """The finished label stages that are trained on, by the names of their rounds."""
    here = context.round_number
    numbers = range(here + 1) if context.config.rounds.data in ("accumulate", "subsample") else [here]
    found = {f"round-{number:03d}": context.run.stage(LABEL, number).manifest() for number in numbers}
    missing = [name for name, manifest in found.items() if manifest is None]
    if missing:
        raise StoreError(f"stage 'label' of {missing[0]} in {context.config.run_dir} is not finished; run it first")
    return {name: manifest for name, manifest in found.items() if manifest}


def _lineage(context: RunContext) -> dict[str, Any]:
    section = context.config.rounds
    reference = section.reference
    return {
        "pairs": {name: manifest.files[PAIRS] for name, manifest in _earlier(context).items()},
        "data": section.model_dump(mode="json", include={"data", "data_size", "reference_share"}),
        "reference": [file_digest(path) for path in data_files(reference)] if reference else None,
        "selection": context.config.selection.model_dump(mode="json", include={"decontaminate", "similar"}),
        "seed": context.config.run.seed,
    }


def _work(context: RunContext, stage: StageStore) -> Metrics:
    section, seed = context.config.rounds, context.config.run.seed
    tables = {
        name: pq.read_table(context.config.run_dir / name / LABEL / PAIRS, schema=PAIR_COLUMNS)
        for name in _earlier(context)
    }
    table, dropped = accumulated(tables), 0
    if section.data == "subsample":
        table = subsampled(table, section.data_size or tables[f"round-{context.round_number:03d}"].num_rows, seed)
    if section.data == "mix" and section.reference:
        rows = _reference(section.reference)
        kept = _uncontaminated(context, rows)
        dropped = len(rows) - len(kept)
        table = mixed_with(table, named(_table(kept), REFERENCE), section.reference_share, seed)
    write_table(stage.path / PAIRS, table)
    counts = {f"{NAME}/pairs.{name}/count": count for name, count in sources(table).items()}
    return {f"{NAME}/pairs/count": table.num_rows, f"{NAME}/reference_dropped/count": dropped, **counts}


def _reference(path: Path) -> list[PreferenceRow]:
    return _read(path, tuple(file.stat().st_mtime_ns for file in data_files(path)))


@lru_cache(maxsize=1)
def _read(path: Path, _changed: tuple[int, ...]) -> list[PreferenceRow]:
    return read_preferences(path)


def _uncontaminated(context: RunContext, rows: list[PreferenceRow]) -> list[PreferenceRow]:
    prompts = {digest([turn.model_dump() for turn in turns]): turns for row in rows if (turns := _turns(row))}
    bad = contaminated_ids(context, [Prompt(id=name, messages=turns) for name, turns in prompts.items()])
    return [row for row in rows if digest([turn.model_dump() for turn in _turns(row)]) not in bad]


def _turns(row: PreferenceRow) -> tuple[Message, ...]:
    return (Message(role="user", content=row.prompt),) if isinstance(row.prompt, str) else row.prompt


def _table(rows: list[PreferenceRow]) -> pa.Table:
    """People's rows in the columns of ours; what they do not say stays empty."""
    values = [
        {
            "prompt": [turn.model_dump() for turn in _turns(row)],
            "chosen": [{"role": "assistant", "content": row.chosen.text}],
            "rejected": [{"role": "assistant", "content": row.rejected.text}],
            "probability": row.probability,
            "margin": row.margin,
            "prompt_id": row.prompt_id or str(number),
            "chosen_id": row.chosen.id or f"{number}/chosen",
            "rejected_id": row.rejected.id or f"{number}/rejected",
            "chosen_finish_reason": "length" if row.chosen.truncated else "stop",
            "rejected_finish_reason": "length" if row.rejected.truncated else "stop",
            "verdict_keys": [],
            "constitution_hash": "",
        }
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(values, schema=PAIR_COLUMNS)


def _check(context: RunContext) -> None:
    reference = context.config.rounds.reference
    if reference:
        _reference(reference)


def _summary(metrics: Metrics) -> str:
    head = f"{NAME}/pairs."
    parts = {
        key.removeprefix(head).removesuffix("/count"): value for key, value in metrics.items() if key.startswith(head)
    }
    dropped = metrics[f"{NAME}/reference_dropped/count"]
    told = ", ".join(f"{count:,} of {name}" for name, count in parts.items())
    left_out = f"; {dropped:,} reference pairs left out, their prompts are evaluation prompts" if dropped else ""
    return f"{metrics[f'{NAME}/pairs/count']:,} pairs to train on: {told}{left_out}"


DATA = Stage(
    NAME,
    "putting the training data together",
    _lineage,
    _work,
    _summary,
    _check,
    wanted=lambda context: context.config.rounds.data != "replace",
)
