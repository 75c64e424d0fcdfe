"""Gold files are read with file and line, drawn by seed, and held against labels by hand-counted shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from judges.gold import Gold, gold_agreement, load_gold
from ratify.errors import InputError
from ratify.lineage import ROOT
from ratify.types import Label


def written(folder: Path, *lines: str) -> Path:
    path = folder / "gold.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def row(prompt: str, gold: str) -> str:
    return f'{{"prompt": "{prompt}", "a": "one", "b": "two", "gold": {gold}}}'


def label(gold: Gold, place: int, margin: float | None, **views: float) -> Label:
    a, b = gold.pairs[place]
    return Label(
        prompt_id=a.prompt_id, a_id=a.id, b_id=b.id, outcome="failed" if margin is None else "tie",
        probability=None, margin=margin, by_principle=views,
    )  # fmt: skip


def test_the_demo_gold_loads_with_every_principle() -> None:
    gold = load_gold(ROOT / "data/demo/gold_pairs.jsonl")
    assert len(gold.pairs) == 348 and len(gold.better()) == 348
    assert {"polite", "helpful", "honest", "safe", "concise", "overall"} == set(gold.winners[0])


def test_agreement_counts_leaning_labels_and_leaves_out_ties_and_failures(tmp_path: Path) -> None:
    lines = [row("p", '"a"'), row("q", '"b"'), row("r", '{"overall": "a", "kind": "b"}'), row("s", '"tie"')]
    gold = load_gold(written(tmp_path, *lines, row("t", '"a"')))
    labels = [label(gold, 0, 0.1), label(gold, 1, 2.0), label(gold, 2, 0.0, kind=-1.0), label(gold, 3, 1.0)]
    found = gold_agreement(gold, [*labels, label(gold, 4, None)], ceiling=0.8)
    assert found.overall and found.overall.n == 3
    assert found.overall.value == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.by_principle["kind"].value == 1.0
    assert found.of_ceiling and found.of_ceiling.value == pytest.approx(0.5 / 0.8)
    assert (found.pairs, found.failed) == (5, 1)


def test_no_label_at_all_is_no_agreement(tmp_path: Path) -> None:
    gold = load_gold(written(tmp_path, row("p", '"a"')))
    assert gold_agreement(gold, [label(gold, 0, None)]).overall is None


def test_a_smaller_draw_is_part_of_a_larger_one_and_a_seed_repeats() -> None:
    gold = load_gold(ROOT / "data/demo/gold_pairs.jsonl")
    few, many = ({a.id for a, _ in gold.drawn(count, 3).pairs} for count in (20, 60))
    assert len(few) == 20 and few < many
    assert gold.drawn(20, 3).pairs == gold.drawn(20, 3).pairs != gold.drawn(20, 4).pairs
    assert len(gold.drawn(10_000, 0).pairs) == 348


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "gold.jsonl:2: not a gold pair (not JSON)"),
        (row("p", '"c"'), "gold.jsonl:2: not a gold pair (gold.overall: Input should be 'a', 'b' or 'tie')"),
        ('{"prompt": "p", "a": "one", "gold": "a"}', "gold.jsonl:2: not a gold pair (b: Field required)"),
        (row("p", '"a"'), "gold.jsonl:2: repeats the id (or the pair)"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load_gold(written(tmp_path, row("p", '"a"'), line))
    assert sentence in str(error.value)


def test_an_absent_or_empty_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_gold(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="holds no pair"):
        load_gold(written(tmp_path, ""))
