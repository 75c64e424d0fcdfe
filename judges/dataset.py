"""Labels become preference data: rows that a preference trainer reads, and a table of every label beside them.

Ties and failures are counted and never become a pair; neither do identical or empty texts. Parquet files are whole or
absent, and equal input gives equal bytes. The chosen reply's probability is kept, so that a trainer may use soft
labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ratify.files import replacing
from ratify.types import Completion, Label, Message, PreferencePair, Prompt

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
    ]
)


class Dataset(NamedTuple):
    """Preference pairs, and what became of the other labels."""

    pairs: list[PreferencePair]
    ties: int
    failed: int
    identical: int
    empty: int
    """Decided labels in which a reply is empty; a trainer has nothing to learn from it."""


def build_dataset(
    labels: Iterable[Label],
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Completion],
    constitution_hash: str,
) -> Dataset:
    """Turn decided labels into pairs; `prompts` and `completions` are by id."""
    pairs: list[PreferencePair] = []
    ties = failed = identical = empty = 0
    for label in labels:
        a, b = completions[label.a_id], completions[label.b_id]
        if label.probability is None or label.margin is None:
            failed += 1
        elif label.outcome == "tie":
            ties += 1
        elif a.text == b.text:
            identical += 1
        elif not (a.text.strip() and b.text.strip()):
            empty += 1
        else:
            pairs.append(_pair(label, prompts[label.prompt_id], (a, b), constitution_hash))
    return Dataset(pairs, ties, failed, identical, empty)


def _pair(
    label: Label, prompt: Prompt, replies: tuple[Completion, Completion], constitution_hash: str
) -> PreferencePair:
    assert label.probability is not None and label.margin is not None
    chosen, rejected = replies if label.outcome == "a" else replies[::-1]
    return PreferencePair(
        prompt=prompt.messages,
        chosen=(Message(role="assistant", content=chosen.text),),
        rejected=(Message(role="assistant", content=rejected.text),),
        probability=label.probability if label.outcome == "a" else 1.0 - label.probability,
        margin=abs(label.margin),
        prompt_id=prompt.id,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        chosen_finish_reason=chosen.finish_reason,
        rejected_finish_reason=rejected.finish_reason,
        verdict_keys=label.verdict_keys,
        constitution_hash=constitution_hash,
    )


def write_pairs(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Write preference pairs as Parquet, in the conversational format of TRL's trainers."""
    write_rows(path, [pair.model_dump(mode="json") for pair in pairs], PAIR_COLUMNS)


def read_pairs(path: Path) -> list[PreferencePair]:
    """Read back what `write_pairs` wrote."""
    return [PreferencePair.model_validate(row) for row in pq.read_table(path).to_pylist()]


def write_labels(path: Path, labels: Sequence[Label]) -> None:
    """Write every label as Parquet, ties and failures too."""
    rows = []
    for label in labels:
        views = [{"principle": name, "log_odds": value} for name, value in label.by_principle.items()]
        rows.append(label.model_dump(mode="json") | {"by_principle": views})
    write_rows(path, rows, LABEL_COLUMNS)


def read_labels(path: Path) -> list[Label]:
    """Read back what `write_labels` wrote."""
    labels = []
    for row in pq.read_table(path).to_pylist():
        row["by_principle"] = {each["principle"]: each["log_odds"] for each in row["by_principle"]}
        labels.append(Label.model_validate(row))
    return labels


def write_rows(path: Path, rows: list[dict[str, object]], columns: pa.Schema) -> None:
    """One thread and fixed options: equal rows give equal bytes."""
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=columns), temporary, compression="zstd", version="2.6")
