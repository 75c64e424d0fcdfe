"""The files that judging leaves: every label, and preference data in the form that a preference trainer reads.

Parquet files are whole or absent, and equal rows give equal bytes. The chosen reply's probability is kept, so that a
trainer may use soft labels. Left out: making them from arrays (`label_table.py`, `preference_table.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ratify.files import replacing
from ratify.types import Label, PreferencePair

ROWS_PER_GROUP = 20_000
"""A writer holds a group in memory."""
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
PAIR_COLUMNS = pa.schema(
    [
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("probability", pa.float64()),
        ("margin", pa.float64()),
        ("prompt_id", pa.string()),
        ("chosen_id", pa.string()),
        ("rejected_id", pa.string()),
        ("chosen_finish_reason", pa.string()),
        ("rejected_finish_reason", pa.string()),
        ("verdict_keys", pa.list_(pa.string())),
        ("constitution_hash", pa.string()),
    ]
)
LABEL_COLUMNS = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("a_id", pa.string()),
        ("b_id", pa.string()),
        ("outcome", pa.string()),
        ("probability", pa.float64()),
        ("margin", pa.float64()),
        ("by_principle", pa.list_(pa.struct([("principle", pa.string()), ("log_odds", pa.float64())]))),
        ("verdict_keys", pa.list_(pa.string())),
        ("failures", pa.list_(pa.string())),
        ("by_checks", pa.list_(pa.string())),
    ]
)


def write_pairs(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Write preference pairs as Parquet, in the conversational format of TRL's trainers."""
    rows = [pair.model_dump(mode="json") for pair in pairs]
    write_table(path, pa.Table.from_pylist(rows, schema=PAIR_COLUMNS))


def read_pairs(path: Path) -> list[PreferencePair]:
    """Read back what `write_pairs` wrote."""
    return [PreferencePair.model_validate(row) for row in pq.read_table(path).to_pylist()]


def read_labels(path: Path) -> list[Label]:
    """Read back what `label_table.write_label_table` wrote."""
    labels = []
    for row in pq.read_table(path).to_pylist():
        row["by_principle"] = {each["principle"]: each["log_odds"] for each in row["by_principle"]}
        labels.append(Label.model_validate(row))
    return labels


def write_table(path: Path, table: pa.Table) -> None:
    """Whole or not at all; one thread and fixed options, so that equal rows give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", version="2.6", row_group_size=ROWS_PER_GROUP)
