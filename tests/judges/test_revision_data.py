"""Judged revisions become rows: what is kept, what is never inverted, and who can read the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from judges.dataset import PAIR_COLUMNS, read_pairs, write_pairs
from judges.revision_data import LastRevision, RevisionData, build_revision_data, outcome_of, write_supervised
from ratify.types import Completion, Label, Message, Prompt

OUTCOMES = {"b": -1.5, "a": 2.0, "tie": 0.0, "failed": None}
"""Of labels over (first, last), with the margin in favour of the first reply."""


def completion(name: str, text: str, finish: str = "stop") -> Completion:
    return Completion(
        id=name,
        prompt_id=name.split("/", maxsplit=1)[0],
        text=text,
        finish_reason=finish,
        prompt_tokens=1,
        completion_tokens=1,
        seed=0,
    )


def world(**changed: Any) -> tuple[list[LastRevision], dict[str, Label], dict[str, Prompt]]:
    """One prompt per outcome, and one whose revision equals the first reply."""
    revisions, labels, prompts = [], {}, {}
    for number, outcome in enumerate([*OUTCOMES, "same"]):
        name = f"p{number}"
        prompts[name] = Prompt(id=name, messages=(Message(role="user", content=f"question {number}"),))
        first = completion(f"{name}/first/0", f"before {number}")
        text = first.text if outcome == "same" else changed.get("text", f"after {number}")
        last = completion(f"{name}/revision-2/0", text, changed.get("finish", "stop"))
        revisions.append(LastRevision(first, last, ("kind", "true")))
        if outcome != "same":
            margin = OUTCOMES[outcome]
            labels[last.id] = Label(
                prompt_id=name, a_id=first.id, b_id=last.id, outcome=outcome, margin=margin,
                probability=None if margin is None else {2.0: 0.9, -1.5: 0.2, 0.0: 0.5}[margin],
                verdict_keys=(f"v{number}",), failures=() if margin is not None else ("kind: refused",),
            )  # fmt: skip
    return revisions, labels, prompts


def build(changed: dict[str, Any] | None = None, **settings: Any) -> RevisionData:
    return build_revision_data(*world(**(changed or {})), "c0ffee", **settings)


def test_a_label_of_before_and_after_is_read_from_the_side_of_after() -> None:
    revisions, labels, _ = world()
    found = [outcome_of(labels.get(each.last.id)) for each in revisions]
    assert found == ["better", "worse", "tied", "failed", "tied"]


def test_a_better_revision_is_chosen_over_the_first_reply_with_its_own_probability() -> None:
    (pair,) = build().pairs
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("after 0", "before 0")
    assert pair.probability == pytest.approx(0.8) and pair.margin == 1.5
    assert (pair.verdict_keys, pair.constitution_hash) == (("v0",), "c0ffee")


def test_a_worse_revision_is_never_chosen() -> None:
    both = build(pairs_against=True).pairs
    assert [(pair.chosen_id, pair.rejected_id) for pair in both] == [
        ("p0/revision-2/0", "p0/first/0"), ("p1/first/0", "p1/revision-2/0"),
    ]  # fmt: skip
    assert both[1].probability == pytest.approx(0.9) and both[1].margin == 2.0


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("better", ["better"]),
        ("not_worse", ["better", "tied", "tied"]),
        ("all", ["better", "worse", "tied", "failed", "tied"]),
    ],
)
def test_what_is_learnt_is_what_keep_says(keep: Any, kept: list[str]) -> None:
    made = build(keep=keep)
    assert [row.outcome for row in made.supervised] == kept
    assert made.counts["supervised"] == len(kept) and made.counts["pairs"] == 1
    assert sum(count for name, count in made.counts.items() if name != "pairs") == 5


def test_a_row_says_where_it_comes_from() -> None:
    row = build(keep="all").supervised[1]
    assert (row.prompt_id, row.id, row.first_id) == ("p1", "p1/revision-2/0", "p1/first/0")
    assert row.probability == pytest.approx(0.1) and row.margin == -2.0 and row.principles == ("kind", "true")
    failed, same = build(keep="all").supervised[3:]
    assert failed.probability is None and failed.margin is None
    assert same.probability == 0.5 and same.margin == 0.0 and same.verdict_keys == ()


def test_cut_off_and_empty_revisions_are_not_learnt() -> None:
    cut = build({"finish": "length"}, keep="all")
    assert cut.supervised == [] and cut.counts["dropped_cut_off"] == 5
    assert [pair.chosen_finish_reason for pair in cut.pairs] == ["length"]
    empty = build({"text": " "}, keep="all")
    assert empty.counts["dropped_empty"] == 4 and empty.pairs == []


def test_both_files_load_as_datasets_and_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = build(keep="all")
    for name in ("one", "two"):
        write_supervised(tmp_path / f"{name}.parquet", made.supervised)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    write_pairs(tmp_path / "pairs.parquet", made.pairs)
    sft, pairs = (
        datasets.load_dataset(
            "parquet", data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache")
        )
        for name in ("one.parquet", "pairs.parquet")
    )
    assert sft[0]["prompt"] == [{"role": "user", "content": "question 0"}]
    assert sft[0]["completion"] == [{"role": "assistant", "content": "after 0"}]
    assert pairs.column_names == PAIR_COLUMNS.names and read_pairs(tmp_path / "pairs.parquet") == made.pairs


def test_nothing_to_learn_is_a_file_with_columns(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_supervised(tmp_path / "empty.parquet", [])
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0
    assert {"prompt", "completion", "outcome"} <= set(pq.read_schema(tmp_path / "empty.parquet").names)
