"""Preference data: what becomes a pair, what is only counted, and files that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from judges.dataset import read_labels, read_pairs, write_pairs
from ratify.types import Label
from tests.judges.slow_labels import slow_dataset, write_slow_labels
from tests.judges.worlds import completion, prompt

COMPLETIONS = {each.id: each for each in (completion("good", "a"), completion("bad", "b"), completion("good", "c"))}


def label(outcome: Any, a: str = "a", b: str = "b", margin: float | None = 2.0, p: float | None = 0.88) -> Label:
    return Label(
        prompt_id="p",
        a_id=a,
        b_id=b,
        outcome=outcome,
        probability=p,
        margin=margin,
        by_principle={} if margin is None else {"z": 1.0, "a": -2.0},
        verdict_keys=("k1", "k2"),
        failures=() if margin is not None else ("z: refused",),
    )


LABELS = [
    label("a"),
    label("b", margin=-1.0, p=0.25),
    label("tie", margin=0.0, p=0.5),
    label("failed", margin=None, p=None),
    label("a", b="c"),
]


def built() -> Any:
    return slow_dataset(LABELS, {"p": prompt()}, COMPLETIONS, "hash")


def test_ties_failures_and_identical_texts_are_counted_and_never_pairs() -> None:
    made = built()
    assert (made.ties, made.failed, made.identical, len(made.pairs)) == (1, 1, 1, 2)
    first, second = made.pairs
    assert (first.chosen_id, first.rejected_id, first.probability, first.margin) == ("a", "b", 0.88, 2.0)
    assert (second.chosen_id, second.rejected_id, second.probability, second.margin) == ("b", "a", 0.75, 1.0)
    assert first.chosen[0].content == "good" and first.chosen[0].role == "assistant"


def test_an_empty_reply_is_counted_and_never_a_pair() -> None:
    replies = {**COMPLETIONS, "b": COMPLETIONS["b"].model_copy(update={"text": " "})}
    made = slow_dataset(LABELS, {"p": prompt()}, replies, "hash")
    assert made.empty == 2 and made.pairs == []


def test_datasets_reads_the_parquet_in_the_conversational_format(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_pairs(tmp_path / "pairs.parquet", built().pairs)
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "pairs.parquet"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert rows.column_names == [
        *("prompt", "chosen", "rejected", "probability", "margin", "prompt_id", "chosen_id", "rejected_id"),
        *("chosen_finish_reason", "rejected_finish_reason"),
        *("verdict_keys", "constitution_hash"),
    ]
    assert rows[0]["prompt"] == [{"role": "user", "content": "How are you?"}]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": "good"}]
    assert rows[1]["verdict_keys"] == ["k1", "k2"] and rows[1]["constitution_hash"] == "hash"


def test_equal_input_gives_equal_bytes_and_reads_back(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pairs(tmp_path / f"{name}.pairs", built().pairs)
        write_slow_labels(tmp_path / f"{name}.labels", LABELS)
    for kind in ("pairs", "labels"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert read_pairs(tmp_path / "one.pairs") == built().pairs
    assert read_labels(tmp_path / "one.labels") == LABELS


def test_no_pairs_is_a_file_with_columns(tmp_path: Path) -> None:
    write_pairs(tmp_path / "none.parquet", [])
    assert read_pairs(tmp_path / "none.parquet") == []
