"""Labels from arrays to Parquet, without a Python object per label; equal input gives equal bytes.

Beside them the multi-objective table: one soft label per pair and objective. Left out: preference data
(`preference_table.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from constitutions.schema import Principle
from judges.aggregate import OUTCOME_NAMES, Aggregated, Bools
from judges.columns import KEY
from judges.dataset import LABEL_COLUMNS, write_table
from judges.labels import Labelled, reasons
from ratify.errors import InputError

ROWS_AT_ONCE = 10_000
"""Pairs whose keys are sorted at once."""

MOST_KEYS = 2**31 // 64
"""A column of texts addresses its characters with 32 bits."""


def write_label_table(path: Path, labelled: Labelled) -> None:
    """Write every label as Parquet, ties and failures too."""
    write_table(path, label_rows(labelled, verdict_keys(labelled)))


def label_rows(labelled: Labelled, keys: pa.Array) -> pa.Table:
    """Every label as a row; `keys` are `verdict_keys(labelled)`."""
    a_ids, b_ids = zip(*((a.id, b.id) for a, b in labelled.pairs), strict=True) if labelled.pairs else ((), ())
    made = labelled.made
    lost = np.isnan(made.margin)
    columns = [
        pa.array([a.prompt_id for a, _ in labelled.pairs], pa.string()),
        pa.array(a_ids, pa.string()),
        pa.array(b_ids, pa.string()),
        pa.array([OUTCOME_NAMES[value] for value in made.outcome.tolist()], pa.string()),
        pa.array(made.probability, pa.float64(), mask=lost),
        pa.array(made.margin, pa.float64(), mask=lost),
        _views(made),
        keys,
        pa.array([reasons(labelled, row) if failed else [] for row, failed in enumerate(lost)], pa.list_(pa.string())),
        _names(made.principles, labelled.evidence.by_checks),
    ]
    return pa.Table.from_arrays(columns, schema=LABEL_COLUMNS)


def objective_rows(split: Mapping[str, Labelled]) -> pa.Table:
    """One column of P(a is better) per objective; null where none of its principles speaks or a verdict is missing."""
    pairs = next(iter(split.values())).pairs
    columns = {
        "prompt_id": pa.array([a.prompt_id for a, _ in pairs], pa.string()),
        "a_id": pa.array([a.id for a, _ in pairs], pa.string()),
        "b_id": pa.array([b.id for _, b in pairs], pa.string()),
    }
    for name, each in split.items():
        columns[name] = pa.array(each.made.probability, pa.float64(), mask=np.isnan(each.made.margin))
    return pa.table(columns)


def _views(made: Aggregated) -> pa.Array:
    seen = ~np.isnan(made.log_odds)
    structs = pa.StructArray.from_arrays(
        [_names(made.principles, seen).values, pa.array(made.log_odds[seen])],
        fields=list(LABEL_COLUMNS.field("by_principle").type.value_type),
    )
    return pa.ListArray.from_arrays(
        _offsets([seen.sum(axis=1)]), structs, type=LABEL_COLUMNS.field("by_principle").type
    )


def _names(principles: Sequence[Principle], marked: Bools) -> pa.Array:
    """Each pair's marked principles as a list of ids."""
    names = pa.array([principle.id for principle in principles], pa.string())
    which = pa.array(np.nonzero(marked)[1].astype(np.int32))
    return pa.ListArray.from_arrays(_offsets([marked.sum(axis=1)]), names.take(which))


def verdict_keys(labelled: Labelled) -> pa.Array:
    """Each pair's keys as a list of texts, sorted, once each; they never become Python objects."""
    answered = labelled.answered.reshape(*labelled.keys.shape[:3], *[1] * (labelled.keys.ndim - 3))
    flat, used, counts = np.empty(labelled.keys.size, dtype=KEY), 0, []
    for start in range(0, len(labelled.pairs), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        keys = np.where(answered[rows], labelled.keys[rows], b"").reshape(answered[rows].shape[0], -1)
        keys.sort(axis=1)
        kept = keys != b""
        kept[:, 1:] &= keys[:, 1:] != keys[:, :-1]
        counts.append(kept.sum(axis=1))
        flat[used : used + int(kept.sum())] = keys[kept]
        used += int(kept.sum())
    if used >= MOST_KEYS:
        raise InputError(f"{used:,} verdict keys are too many for one label table; relabel fewer pairs at once")
    offsets = pa.py_buffer(np.arange(used + 1, dtype=np.int32) * np.int32(64))
    texts = pa.StringArray.from_buffers(used, offsets, pa.py_buffer(flat[:used].view(np.uint8)))
    return pa.ListArray.from_arrays(_offsets(counts), texts, type=LABEL_COLUMNS.field("verdict_keys").type)


def _offsets(counts: Sequence[NDArray[np.int64]]) -> pa.Array:
    """Where each list begins, from the lengths of the lists in blocks."""
    return pa.array(np.concatenate([[0], np.cumsum(np.concatenate([[], *counts]))]).astype(np.int32))
