"""Judged revisions become data: the last revision of each reply to learn from, and pairs of revision and first reply.

A label compares the first reply (a) with the last revision (b). A reply that the revisions left word for word as it was
is tied without a judge. A pair is written for the side that the judge preferred and never the other way round, so a
revision that was judged worse is nobody's chosen reply. Supervised rows leave out empty and cut-off revisions: a
trainer would teach the policy to stop there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from judges.dataset import MESSAGES, write_table
from ratify.types import Completion, Label, Message, PreferencePair, Prompt, RevisionOutcome, SupervisedRow

Keep = Literal["better", "not_worse", "all"]
KEPT: dict[Keep, frozenset[RevisionOutcome]] = {
    "better": frozenset({"better"}),
    "not_worse": frozenset({"better", "tied"}),
    "all": frozenset({"better", "worse", "tied", "failed"}),
}
SUPERVISED_COLUMNS = pa.schema(
    [
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        ("prompt_id", pa.string()),
        ("id", pa.string()),
        ("finish_reason", pa.string()),
        ("first_id", pa.string()),
        ("principles", pa.list_(pa.string())),
        ("outcome", pa.string()),
        ("probability", pa.float64()),
        ("margin", pa.float64()),
        ("verdict_keys", pa.list_(pa.string())),
        ("constitution_hash", pa.string()),
    ]
)


class LastRevision(NamedTuple):
    """A reply before and after all its revisions."""

    first: Completion
    last: Completion
    principles: tuple[str, ...]
    """Drawn, step by step."""


class RevisionData(NamedTuple):
    """Both datasets, and what became of the other replies."""

    supervised: list[SupervisedRow]
    pairs: list[PreferencePair]
    counts: dict[str, int]


def outcome_of(label: Label | None) -> RevisionOutcome:
    """What a label of (before, after) says of the one after; without a label both texts are the same."""
    if label is None:
        return "tied"
    names: dict[str, RevisionOutcome] = {"a": "worse", "b": "better", "tie": "tied", "failed": "failed"}
    return names[label.outcome]


def build_revision_data(
    revisions: Sequence[LastRevision],
    labels: Mapping[str, Label],
    prompts: Mapping[str, Prompt],
    constitution_hash: str,
    *,
    keep: Keep = "better",
    pairs_against: bool = False,
) -> RevisionData:
    """Turn judged revisions into rows.

    Args:
        revisions: Replies with all their revisions made.
        labels: By the last revision's id; none for a revision that equals the first reply.
        prompts: By id.
        constitution_hash: What the labels were made by.
        keep: Which outcomes become supervised rows.
        pairs_against: Whether pairs in which the first reply won are written too.
    """
    wanted = {"better", "worse"} if pairs_against else {"better"}
    pairs = [
        _pair(each, labels[each.last.id], prompts[each.first.prompt_id], constitution_hash)
        for each in revisions
        if outcome_of(labels.get(each.last.id)) in wanted and each.first.text.strip() and each.last.text.strip()
    ]
    rows, dropped = [], Counter[str]()
    for each in revisions:
        label = labels.get(each.last.id)
        fault = _unfit(each, outcome_of(label), keep)
        if fault:
            dropped[fault] += 1
        else:
            rows.append(_row(each, label, prompts[each.first.prompt_id], constitution_hash))
    counts = {"pairs": len(pairs), "supervised": len(rows)}
    return RevisionData(rows, pairs, counts | {f"dropped_{why}": count for why, count in dropped.items()})


def write_supervised(path: Path, rows: Sequence[SupervisedRow]) -> None:
    """Write supervised rows as Parquet; an empty file has its columns all the same."""
    table = pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=SUPERVISED_COLUMNS)
    write_table(path, table)


def _pair(revision: LastRevision, label: Label, prompt: Prompt, constitution_hash: str) -> PreferencePair:
    """A decided label as preference data, oriented by what the judge preferred."""
    assert label.probability is not None and label.margin is not None
    first_won = label.outcome == "a"
    chosen, rejected = (revision.first, revision.last) if first_won else (revision.last, revision.first)
    return PreferencePair(
        prompt=prompt.messages,
        chosen=(Message(role="assistant", content=chosen.text),),
        rejected=(Message(role="assistant", content=rejected.text),),
        probability=label.probability if first_won else 1.0 - label.probability,
        margin=abs(label.margin),
        prompt_id=prompt.id,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        chosen_finish_reason=chosen.finish_reason,
        rejected_finish_reason=rejected.finish_reason,
        verdict_keys=label.verdict_keys,
        constitution_hash=constitution_hash,
    )


def _unfit(revision: LastRevision, outcome: RevisionOutcome, keep: Keep) -> str | None:
    """Why a revision is no supervised row."""
    if outcome not in KEPT[keep]:
        return outcome
    if not revision.last.text.strip():
        return "empty"
    return "cut_off" if revision.last.finish_reason == "length" else None


def _row(revision: LastRevision, label: Label | None, prompt: Prompt, constitution_hash: str) -> SupervisedRow:
    probability = 0.5 if label is None else None if label.probability is None else 1.0 - label.probability
    margin = 0.0 if label is None else None if label.margin is None else -label.margin
    return SupervisedRow(
        prompt=prompt.messages,
        completion=(Message(role="assistant", content=revision.last.text),),
        prompt_id=prompt.id,
        id=revision.last.id,
        finish_reason=revision.last.finish_reason,
        first_id=revision.first.id,
        principles=revision.principles,
        outcome=outcome_of(label),
        probability=probability,
        margin=margin,
        verdict_keys=label.verdict_keys if label else (),
        constitution_hash=constitution_hash,
    )
