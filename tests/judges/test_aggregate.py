"""Aggregation over arrays equals the readable pair-by-pair path to the last bit, and attribution adds up exactly."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from constitutions.schema import Constitution
from judges.aggregate import FAILED, OUTCOME_NAMES, Aggregated, Evidence, aggregate, contributions, without
from judges.columns import Column, read_column, write_column
from judges.dataset import read_labels, read_pairs, write_pairs
from judges.label_table import write_label_table
from judges.labels import Labelled, label_pairs, labels_of, split_labels
from judges.preference_table import write_preferences
from judges.questions import Pair, PairKeys, Questionnaire
from ratify.types import Failure, Label, Protocol, Verdict
from tests.judges.slow_labels import slow_dataset, slow_labels, write_slow_labels
from tests.judges.worlds import constitution, pair, prompt

METHODS = ("logit_mean", "logit_sum", "probability_mean")
PROTOCOLS: tuple[Protocol, ...] = ("pointwise", "pairwise")


def rules(
    method: str = "logit_mean", more: str = "clamp: [0.05, 0.9], min_margin: 0.2, veto_margin: 1.0"
) -> Constitution:
    return constitution(
        "id: p0, weight: 2.5", "id: p1, severity: hard, tier: high", "id: p2, severity: hard, tier: low, weight: 0.3",
        "id: p3, severity: info, weight: 9", "id: p4, weight: 0", "id: p5, weight: 0.1, tier: low",
        "id: p6, severity: hard, tier: high, weight: 3",
        more=f"aggregate: {{method: {method}, {more}}}\njudge_defaults: {{tie_band: 0.03}}",
    )  # fmt: skip


def random_world(
    made: Constitution, count: int, seed: int
) -> tuple[Questionnaire, dict[str, Verdict], dict[str, Failure]]:
    """Pairs with verdicts, some principles not asked, some verdicts missing, some keys shared."""
    draw = random.Random(seed)
    pairs: list[Pair] = [pair(prompt_id=f"q{row}") for row in range(count)]
    verdicts: dict[str, Verdict] = {}
    failures: dict[str, Failure] = {}
    keys = []
    for row in range(count):
        of_pair = {}
        for number, principle in enumerate(made.active):
            if draw.random() < 0.1:
                continue
            shared = 0 if number < 2 and draw.random() < 0.1 else number
            both = PairKeys(f"{row:030d}{shared:033d}a", f"{row:030d}{shared:033d}b")
            of_pair[principle.id] = both
            for key in both:
                if draw.random() < 0.004:
                    failures[key] = Failure.REFUSED
                    continue
                z = draw.choice([0.0, -0.0, 1.0, draw.gauss(0, 2), draw.gauss(0, 40)])
                verdicts[key] = Verdict(
                    key=key,
                    judge="j",
                    principle=principle.id,
                    protocol="pointwise",
                    prompt_id="p",
                    first_id="x",
                    logit=z,
                )
        keys.append(of_pair)
    return Questionnaire({}, pairs, keys), verdicts, {key: why for key, why in failures.items() if key not in verdicts}


def world(
    method: str, protocol: Protocol, seed: int = 0, count: int = 500
) -> tuple[Labelled, list[Label], Constitution]:
    made = rules(method)
    sheet, verdicts, failures = random_world(made, count, seed)
    fast = label_pairs(sheet, verdicts, failures, made, protocol)
    return fast, slow_labels(sheet, verdicts, failures, made, protocol), made


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", METHODS)
def test_arrays_give_the_labels_of_the_readable_path_bit_for_bit(method: str, protocol: Protocol) -> None:
    fast, slow, _ = world(method, protocol)
    assert labels_of(fast) == slow
    assert {label.outcome for label in slow} == {"a", "b", "tie", "failed"} and fast.made.vetoed.any()
    for value, label in zip(fast.made.margin.tolist(), slow, strict=True):
        assert label.margin is None or value.hex() == label.margin.hex()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_table_is_the_file_that_records_make_byte_for_byte(protocol: Protocol, tmp_path: Path) -> None:
    fast, slow, _ = world("logit_mean", protocol)
    write_label_table(tmp_path / "fast.parquet", fast)
    write_slow_labels(tmp_path / "slow.parquet", slow)
    assert (tmp_path / "fast.parquet").read_bytes() == (tmp_path / "slow.parquet").read_bytes()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_preference_data_are_the_file_that_records_make_byte_for_byte(protocol: Protocol, tmp_path: Path) -> None:
    fast, slow, _ = world("logit_mean", protocol)
    fast.pairs[3][0].__dict__["text"], fast.pairs[4][1].__dict__["text"] = fast.pairs[3][1].text, " "
    prompts = {a.prompt_id: prompt(a.prompt_id, f"Why {a.prompt_id}?") for a, _ in fast.pairs}
    by_hand = slow_dataset(slow, prompts, {each.id: each for both in fast.pairs for each in both}, "hash")
    counts = write_preferences(tmp_path / "fast.parquet", fast, prompts, "hash")
    write_pairs(tmp_path / "slow.parquet", by_hand.pairs)
    assert (tmp_path / "fast.parquet").read_bytes() == (tmp_path / "slow.parquet").read_bytes()
    assert counts == (len(by_hand.pairs), *by_hand[1:]) and min(counts[:4]) > 0


def test_labels_of_which_none_is_decided_are_files_with_columns(tmp_path: Path) -> None:
    """Such as an objective whose principles never speak."""
    fast, _, made = world("logit_mean", "pointwise", count=5)
    silent = fast.evidence.of(False for _ in made.active)
    nothing = fast._replace(evidence=silent, made=aggregate(silent, made, "pointwise"))
    counts = write_preferences(tmp_path / "pairs.parquet", nothing, {}, "hash")
    assert counts == (0, 0, 5, 0, 0) and read_pairs(tmp_path / "pairs.parquet") == []
    write_label_table(tmp_path / "labels.parquet", nothing)
    assert read_labels(tmp_path / "labels.parquet") == labels_of(nothing)


@pytest.mark.parametrize("method", METHODS)
def test_shares_of_principles_add_up_to_the_margin(method: str) -> None:
    fast, _, made = world(method, "pointwise")
    kept = fast.made.outcome != FAILED
    total = contributions(fast.made, made)[kept].sum(axis=1)
    expected = fast.made.probability - 0.5 if method == "probability_mean" else fast.made.margin
    np.testing.assert_allclose(total, expected[kept], atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_leaving_a_principle_out_is_what_labels_are_without_it(method: str) -> None:
    fast, _, made = world(method, "pointwise", count=200)
    for index in range(len(made.active)):
        kept = [number != index for number in range(len(made.active))]
        again: Aggregated = aggregate(fast.evidence.of(kept), made, "pointwise")
        np.testing.assert_array_equal(without(fast.made, fast.evidence, index, made, "pointwise"), again.outcome)


def test_an_objective_is_the_label_of_its_tier_alone() -> None:
    """p: 2 − 0 = 2 in tier high; q and r: (−1 + 3) / 2 = 1 in tier low."""
    made = constitution("id: p, tier: high", "id: q, tier: low", "id: r, tier: low", "id: s, weight: 5")
    z = np.array([[[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [9.0, 0.0]]])
    evidence = Evidence(made.active, np.ones((1, 4), dtype=bool), z, np.zeros((1, 4), dtype=np.int8))
    keys = np.array([[[f"{name}-{side}" for side in "ab"] for name in "pqrs"]], dtype="S64")
    whole = Labelled([pair()], evidence, keys, aggregate(evidence, made, "pointwise"), {})
    found = split_labels(whole, made, "pointwise", "tier")
    assert {name: each.made.margin.tolist() for name, each in found.items()} == {"high": [2.0], "low": [1.0]}
    assert labels_of(found["low"])[0].verdict_keys == ("q-a", "q-b", "r-a", "r-b")


def test_outcome_names_are_those_of_labels() -> None:
    assert set(OUTCOME_NAMES.values()) == {"a", "b", "tie", "failed"}


def test_a_column_survives_its_file(tmp_path: Path) -> None:
    key = "ab" * 32
    column = Column(
        np.array([True, False]),
        np.array([[1.5, np.nan], [np.nan, np.nan]]),
        np.array([[key, key], ["", ""]], dtype="S64"),
        np.array([0, -1], dtype=np.int8),
    )
    write_column(tmp_path / "c.npz", column)
    back = read_column(tmp_path / "c.npz")
    assert back is not None and all(
        np.array_equal(one, other, equal_nan=part == 1)
        for part, (one, other) in enumerate(zip(column, back, strict=True))
    )
    (tmp_path / "c.npz").write_bytes(b"half a file")
    assert read_column(tmp_path / "c.npz") is None and read_column(tmp_path / "none.npz") is None
