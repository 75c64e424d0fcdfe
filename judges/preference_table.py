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
from judges.arrow_arrays import floats, lists, offsets, row_numbers, texts
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
        floats(np.where(for_a, probability, 1.0 - probability)),
        floats(np.abs(made.margin[rows])),
        texts([each.prompt_id for each in chosen]),
        texts([each.id for each in chosen]),
        texts([each.id for each in rejected]),
        texts([each.finish_reason for each in chosen]),
        texts([each.finish_reason for each in rejected]),
        keys.take(row_numbers(rows)),
        texts([constitution_hash] * len(rows)),
    ]
    return pa.Table.from_arrays(columns, schema=PAIR_COLUMNS), counts


def _conversations(names: Sequence[str], prompts: Mapping[str, Prompt]) -> pa.Array:
    """Each row's prompt; every prompt is written down once and then referred to."""
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    shown = [prompts[name].messages for name in place]
    turns = [message for messages in shown for message in messages]
    whole = _turns([turn.role for turn in turns], [turn.content for turn in turns], offsets(map(len, shown)))
    return whole.take(row_numbers([place[name] for name in names]))


def _replies(completions: Sequence[Completion]) -> pa.Array:
    """One assistant turn per row."""
    places = np.arange(len(completions) + 1, dtype=np.int32)
    return _turns(["assistant"] * len(completions), [each.text for each in completions], places)


def _turns(roles: Sequence[str], contents: Sequence[str], places: NDArray[np.int32]) -> pa.Array:
    turns = pa.StructArray.from_arrays([texts(roles), texts(contents)], fields=list(MESSAGES.value_type))
    return lists(places, turns, MESSAGES)
