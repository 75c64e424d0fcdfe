"""Decided labels become preference data: Parquet that a preference trainer reads, straight from arrays.

Ties and failures are counted and never become a pair; neither do identical or empty texts. Each row keeps the chosen
reply's probability for trainers that use soft labels, and the keys of the verdicts that it rests on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from judges.aggregate import FAILED, TIE, A, Aggregated
from judges.dataset import MESSAGES, PAIR_COLUMNS, write_table
from judges.label_table import verdict_keys
from judges.labels import Labelled
from judges.questions import Pair
from ratify.types import Completion, Prompt


class PairCounts(NamedTuple):
    """What became of the labels."""

    pairs: int
    """Rows of preference data."""
    ties: int
    failed: int
    identical: int
    empty: int
    """Decided labels in which a reply is empty; a trainer has nothing to learn from it."""

    def plus(self, other: PairCounts) -> PairCounts:
        """Of both."""
        return PairCounts(*(one + more for one, more in zip(self, other, strict=True)))


class Preferences(NamedTuple):
    """The labels that are preference data."""

    rows: NDArray[np.intp]
    """Ascending."""
    counts: PairCounts


def preferences(pairs: Sequence[Pair], made: Aggregated) -> Preferences:
    """Which labels become preference data, and what became of the others."""
    failed, tied = made.outcome == FAILED, made.outcome == TIE
    decided = ~failed & ~tied
    same = decided & np.array([a.text == b.text for a, b in pairs], dtype=np.bool_)
    hollow = decided & ~same & np.array([not (a.text.strip() and b.text.strip()) for a, b in pairs], dtype=np.bool_)
    rows = np.flatnonzero(decided & ~same & ~hollow)
    counts = PairCounts(len(rows), *(int(each.sum()) for each in (tied, failed, same, hollow)))
    return Preferences(rows, counts)


def write_preferences(
    path: Path, labelled: Labelled, prompts: Mapping[str, Prompt], constitution_hash: str
) -> PairCounts:
    """Write preference data in the conversational format of TRL's trainers; `prompts` is by id."""
    rows, counts = preference_rows(labelled, prompts, constitution_hash, verdict_keys(labelled))
    write_table(path, rows)
    return counts


def preference_rows(
    labelled: Labelled, prompts: Mapping[str, Prompt], constitution_hash: str, keys: pa.Array
) -> tuple[pa.Table, PairCounts]:
    """The decided labels as rows, and what became of the others; `keys` are `verdict_keys(labelled)`."""
    pairs, made = labelled.pairs, labelled.made
    rows, counts = preferences(pairs, made)
    for_a = made.outcome[rows] == A
    sides = [pairs[row] if first else pairs[row][::-1] for row, first in zip(rows.tolist(), for_a, strict=True)]
    chosen, rejected = [one for one, _ in sides], [other for _, other in sides]
    probability = made.probability[rows]
    columns = [
        _conversations([each.prompt_id for each in chosen], prompts),
        _replies(chosen),
        _replies(rejected),
        pa.array(np.where(for_a, probability, 1.0 - probability)),
        pa.array(np.abs(made.margin[rows])),
        pa.array([each.prompt_id for each in chosen], pa.string()),
        pa.array([each.id for each in chosen], pa.string()),
        pa.array([each.id for each in rejected], pa.string()),
        pa.array([each.finish_reason for each in chosen], pa.string()),
        pa.array([each.finish_reason for each in rejected], pa.string()),
        keys.take(pa.array(rows)),
        pa.array([constitution_hash] * len(rows), pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=PAIR_COLUMNS), counts


def _conversations(names: Sequence[str], prompts: Mapping[str, Prompt]) -> pa.Array:
    """Each row's prompt; every prompt is written down once and then referred to."""
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    shown = [[message.model_dump() for message in prompts[name].messages] for name in place]
    return pa.array(shown, MESSAGES).take(pa.array([place[name] for name in names], pa.int64()))


def _replies(completions: Sequence[Completion]) -> pa.Array:
    """One assistant turn per row."""
    turns = pa.StructArray.from_arrays(
        [
            pa.array(["assistant"] * len(completions), pa.string()),
            pa.array([each.text for each in completions], pa.string()),
        ],
        fields=list(MESSAGES.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(len(completions) + 1, dtype=np.int32)), turns, type=MESSAGES)
