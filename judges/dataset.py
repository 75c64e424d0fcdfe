"""The files that judging leaves: every label, and preference data in the form that a preference trainer reads.

Parquet files are whole or absent, and equal rows give equal bytes. The chosen reply's probability is kept, so that a
trainer may use soft labels. Left out: making them from arrays (`label_table.py`, `preference_table.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ratify.files import replacing
from ratify.types import Label, PreferencePair

ROWS_PER_GROUP = 4_000
"""A writer holds a group in memory, at some kilobytes a pair and three times over while it encodes it."""
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
    """Whole or not at all."""
    with writing_table(path, table.schema) as writer:
        writer.add(table)


@contextmanager
def writing_table(path: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """A table that grows by parts; the file is there, whole, when the context ends without an error."""
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd", version="2.6") as file:
        writer = TableWriter(file, schema)
        yield writer
        writer.end()


class TableWriter:
    """Rows in, row groups out: one thread, fixed options and groups of one size, so that equal rows give equal bytes,
    in whatever parts they come."""

    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._file = file
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._empty = True

    def add(self, table: pa.Table) -> None:
        """Add rows; a group that is full is written."""
        self._waiting.append(table)
        self._rows += table.num_rows
        while self._rows >= ROWS_PER_GROUP:
            self._write(ROWS_PER_GROUP)

    def end(self) -> None:
        """Write what waits; a table without rows has its columns nevertheless."""
        if self._rows or self._empty:
            self._write(self._rows)

    def _write(self, rows: int) -> None:
        """Rows that lie in several pieces would be cut into pages at the seams, so they are laid together first; the
        pieces are let go before the group is encoded, which takes as much again."""
        whole = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        group, rest = (part.combine_chunks() for part in (whole.slice(0, rows), whole.slice(rows)))
        del whole
        self._waiting, self._rows, self._empty = [rest], rest.num_rows, False
        self._file.write_table(group, row_group_size=ROWS_PER_GROUP)
