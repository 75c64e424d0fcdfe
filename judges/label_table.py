"""Labels from arrays to Parquet, without a Python object per label; equal input gives equal bytes.

Beside them the multi-objective table: one soft label per pair and objective. Left out: preference data
(`preference_table.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from constitutions.schema import Principle
from judges.aggregate import OUTCOME_NAMES, Aggregated, Bools
from judges.arrow_arrays import floats, lists, offsets, row_numbers, texts, texts_of
from judges.columns import KEY
from judges.dataset import LABEL_COLUMNS, write_table
from judges.labels import Labelled, reasons
from ratify.errors import InputError

ROWS_AT_ONCE = 10_000
"""Pairs whose keys are sorted at once."""

TEXTS = pa.list_(pa.string())
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
        texts([a.prompt_id for a, _ in labelled.pairs]),
        texts(a_ids),
        texts(b_ids),
        texts([OUTCOME_NAMES[value] for value in made.outcome.tolist()]),
        floats(made.probability, lost),
        floats(made.margin, lost),
        _views(made),
        keys,
        _reasons(labelled, lost),
        _names(made.principles, labelled.evidence.by_checks),
    ]
    return pa.Table.from_arrays(columns, schema=LABEL_COLUMNS)


def objective_rows(split: Mapping[str, Labelled]) -> pa.Table:
    """One column of P(a is better) per objective; null where none of its principles speaks or a verdict is missing."""
    pairs = next(iter(split.values())).pairs
    columns = {
        "prompt_id": texts([a.prompt_id for a, _ in pairs]),
        "a_id": texts([a.id for a, _ in pairs]),
        "b_id": texts([b.id for _, b in pairs]),
    }
    for name, each in split.items():
        columns[name] = floats(each.made.probability, np.isnan(each.made.margin))
    return pa.table(columns)


def _views(made: Aggregated) -> pa.Array:
    seen = ~np.isnan(made.log_odds)
    kind = LABEL_COLUMNS.field("by_principle").type
    structs = pa.StructArray.from_arrays(
        [_names(made.principles, seen).values, floats(made.log_odds[seen])], fields=list(kind.value_type)
    )
    return lists(offsets(seen.sum(axis=1)), structs, kind)


def _reasons(labelled: Labelled, lost: Bools) -> pa.Array:
    """Why each failed label has no number."""
    found = [reasons(labelled, row) if failed else [] for row, failed in enumerate(lost)]
    return lists(offsets(map(len, found)), texts([each for several in found for each in several]), TEXTS)


def _names(principles: Sequence[Principle], marked: Bools) -> pa.Array:
    """Each pair's marked principles as a list of ids."""
    names = texts([principle.id for principle in principles])
    return lists(offsets(marked.sum(axis=1)), names.take(row_numbers(np.nonzero(marked)[1])), TEXTS)


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
    characters = flat[:used].view(np.uint8)
    whole = texts_of(characters, np.arange(used + 1, dtype=np.int32) * np.int32(64))
    return lists(offsets(np.concatenate([[], *counts])), whole, TEXTS)
