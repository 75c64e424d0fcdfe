"""What a round trains on when it is not only its own pairs: those of earlier rounds, a draw of them, or people's too.

Tables of preference pairs in, one out, by seed. Ids are unique within a round only, so each gets the name of where it
comes from in front. After Gerstgrasser et al. 2024 (arXiv 2404.01413: replace against accumulate), Kazdan et al. 2024
(arXiv 2410.16713: accumulate and subsample) and Alemohammad et al. 2023 (arXiv 2307.01850: fresh real data). None of
them promises that a loop stays healthy; that is measured.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from judges.dataset import PAIR_COLUMNS
from ratify.errors import InputError

IDS = ("prompt_id", "chosen_id", "rejected_id")


def accumulated(tables: Mapping[str, pa.Table]) -> pa.Table:
    """All pairs of all tables, by name of where they come from, in order."""
    return pa.concat_tables([named(table, name) for name, table in tables.items()])


def subsampled(table: pa.Table, size: int, seed: int) -> pa.Table:
    """`size` of the pairs by seed, in their order; all when there are no more."""
    if size >= table.num_rows:
        return table
    return table.take(pa.array(sorted(random.Random(seed).sample(range(table.num_rows), size))))


def mixed_with(own: pa.Table, reference: pa.Table, share: float, seed: int) -> pa.Table:
    """All own pairs, and so many of the reference, drawn by seed, that these are `share` of the whole.

    Raises:
        InputError: the reference has too few.
    """
    needed = round(own.num_rows * share / (1 - share))
    if reference.num_rows < needed:
        raise InputError(
            f"rounds.reference has {reference.num_rows:,} usable pairs, and a share of {share:g} beside "
            f"{own.num_rows:,} pairs takes {needed:,}; lower rounds.reference_share or give it more pairs"
        )
    return pa.concat_tables([own, subsampled(reference, needed, seed)])


def named(table: pa.Table, name: str) -> pa.Table:
    """The table with `name/` before every id."""
    columns = {
        column: pc.binary_join_element_wise(pa.scalar(name), table[column], "/") if column in IDS else table[column]
        for column in PAIR_COLUMNS.names
    }
    return pa.table(columns, schema=PAIR_COLUMNS)


def sources(table: pa.Table) -> dict[str, int]:
    """How many pairs come from where."""
    found: dict[str, int] = {}
    for name in table["chosen_id"].to_pylist():
        source = str(name).partition("/")[0]
        found[source] = found.get(source, 0) + 1
    return found
