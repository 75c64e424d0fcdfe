"""Labels from arrays to Parquet, byte for byte what `dataset.write_labels` writes, without a Python object per label.

Beside it the multi-objective table: one soft label per pair and objective.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from judges.aggregate import FAILED, OUTCOME_NAMES, Aggregated, Bools, Evidence
from judges.columns import KEY, Keys
from judges.dataset import LABEL_COLUMNS
from judges.questions import Pair
from ratify.errors import InputError
from ratify.files import replacing
from ratify.types import Failure, Label

ROWS_AT_ONCE = 10_000
"""Pairs whose keys are sorted at once."""

MOST_KEYS = 2**31 // 64
"""A column of texts addresses its characters with 32 bits."""


class Labelled(NamedTuple):
    """Everything that a label is made of, over all pairs."""

    pairs: Sequence[Pair]
    evidence: Evidence
    keys: Keys
    """(N, P, 2)."""
    made: Aggregated
    failures: Mapping[str, Failure]
    """Why a verdict is missing, by key."""


def labels_of(labelled: Labelled) -> list[Label]:
    """The labels as records."""
    return [_label(labelled, row) for row in range(len(labelled.pairs))]


def write_label_table(path: Path, labelled: Labelled) -> None:
    """Write every label as Parquet."""
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
        _verdict_keys(labelled),
        pa.array([_reasons(labelled, row) if failed else [] for row, failed in enumerate(lost)], pa.list_(pa.string())),
    ]
    with replacing(path) as temporary:
        pq.write_table(
            pa.Table.from_arrays(columns, schema=LABEL_COLUMNS), temporary, compression="zstd", version="2.6"
        )


def write_objectives(path: Path, pairs: Sequence[Pair], made: Mapping[str, Aggregated]) -> None:
    """One column of P(a is better) per objective; null where none of its principles speaks or a verdict is missing."""
    columns = {
        "prompt_id": pa.array([a.prompt_id for a, _ in pairs], pa.string()),
        "a_id": pa.array([a.id for a, _ in pairs], pa.string()),
        "b_id": pa.array([b.id for _, b in pairs], pa.string()),
    }
    for name, each in made.items():
        columns[name] = pa.array(each.probability, pa.float64(), mask=np.isnan(each.margin))
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd", version="2.6")


def _views(made: Aggregated) -> pa.Array:
    seen = ~np.isnan(made.log_odds)
    names = pa.array([principle.id for principle in made.principles], pa.string())
    which = pa.array(np.nonzero(seen)[1].astype(np.int32))
    structs = pa.StructArray.from_arrays(
        [names.take(which), pa.array(made.log_odds[seen])],
        fields=list(LABEL_COLUMNS.field("by_principle").type.value_type),
    )
    return pa.ListArray.from_arrays(
        _offsets([seen.sum(axis=1)]), structs, type=LABEL_COLUMNS.field("by_principle").type
    )


def _verdict_keys(labelled: Labelled) -> pa.Array:
    """Each pair's keys, sorted, once each; they never become Python objects, and never lie in memory three times."""
    answered = _answered(labelled)
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


def _answered(labelled: Labelled) -> Bools:
    answered: Bools = labelled.evidence.asked[..., None] & ~np.isnan(labelled.evidence.z)
    return answered


def _offsets(counts: Sequence[NDArray[np.int64]]) -> pa.Array:
    """Where each list begins, from the lengths of the lists in blocks."""
    return pa.array(np.concatenate([[0], np.cumsum(np.concatenate([[], *counts]))]).astype(np.int32))


def _reasons(labelled: Labelled, row: int) -> list[str]:
    evidence, reasons = labelled.evidence, []
    for column, principle in enumerate(evidence.principles):
        if evidence.asked[row, column] and principle.decides:
            lost = np.flatnonzero(np.isnan(evidence.z[row, column]))
            keys = [labelled.keys[row, column, side].decode() for side in lost]
            reasons += [f"{principle.id}: {labelled.failures.get(key) or 'missing'}" for key in keys]
    return reasons or ["no principle that is weighed applies"]


def _label(labelled: Labelled, row: int) -> Label:
    made, (a, b) = labelled.made, labelled.pairs[row]
    failed = int(made.outcome[row]) == FAILED
    views = zip(made.principles, made.log_odds[row].tolist(), strict=True)
    keys = labelled.keys[row][_answered(labelled._replace(evidence=labelled.evidence.rows(np.array([row]))))[0]]
    return Label(
        prompt_id=a.prompt_id,
        a_id=a.id,
        b_id=b.id,
        outcome=OUTCOME_NAMES[int(made.outcome[row])],
        probability=None if failed else float(made.probability[row]),
        margin=None if failed else float(made.margin[row]),
        by_principle={principle.id: value for principle, value in views if not math.isnan(value)},
        verdict_keys=tuple(sorted({key.decode() for key in keys})),
        failures=tuple(_reasons(labelled, row)) if failed else (),
    )
