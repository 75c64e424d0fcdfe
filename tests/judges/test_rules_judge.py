"""The deterministic judge: labels from checks alone, the same to the last bit, and silence where there are none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from judges.label_table import write_label_table
from judges.labelling import collect_verdicts
from judges.labels import compute_labels, label_pairs
from judges.rules_judge import CERTAINTY, RulesJudge, log_odds
from ratify.types import Label
from ratify.types import Protocol as JudgingProtocol
from ratify.verdict_store import VerdictStore
from tests.judges.worlds import asked, constitution, many, pair, prompt

RULES = constitution("id: short, checks: [{type: max_words, value: 2}, {type: max_chars, value: 99}]", "id: silent")


def labels(
    folder: Path, protocol: JudgingProtocol = "pointwise", a: str = "Two words.", b: str = "Now three words."
) -> list[Label]:
    judge = RulesJudge(protocol)
    sheet = asked(judge, RULES, {"p": prompt()}, [pair(a, b)])
    store = VerdictStore.in_folder(folder)
    found = asyncio.run(collect_verdicts(sheet.questions, judge, store, failure_budget=0.0))
    return compute_labels(sheet, found.verdicts, found.failures, RULES, protocol)


def test_log_odds_are_the_constant_times_checks_met_minus_not_met() -> None:
    principle = RULES.principles[0]
    assert log_odds(principle, "Two words.") == CERTAINTY
    assert log_odds(principle, "Now three words.") == 0.0
    assert log_odds(principle, "many words " * 50) == -CERTAINTY


@pytest.mark.parametrize("protocol", ["pointwise", "pairwise"])
def test_both_protocols_give_the_difference(tmp_path: Path, protocol: JudgingProtocol) -> None:
    (made,) = labels(tmp_path, protocol)
    assert made.outcome == "a" and made.margin == CERTAINTY and made.by_principle == {"short": CERTAINTY}


def test_a_principle_without_checks_has_no_verdict_at_all(tmp_path: Path) -> None:
    assert "silent" not in labels(tmp_path)[0].by_principle


def test_labels_from_a_store_of_scraps_are_byte_identical_to_a_fresh_run(tmp_path: Path) -> None:
    judge = RulesJudge()
    prompts, pairs = many(50)
    sheet = asked(judge, RULES, prompts, pairs)
    scraps = dict(list(sheet.questions.items())[::3])
    for folder, parts in (("fresh", [sheet.questions]), ("pieces", [scraps, sheet.questions])):
        store = VerdictStore.in_folder(tmp_path / folder)
        for questions in parts:
            found = asyncio.run(collect_verdicts(questions, judge, store, failure_budget=0.0))
        made = label_pairs(sheet, found.verdicts, found.failures, RULES, "pointwise")
        write_label_table(tmp_path / folder / "labels.parquet", made)
    fresh, pieces = ((tmp_path / folder / "labels.parquet").read_bytes() for folder in ("fresh", "pieces"))
    assert fresh == pieces


def test_a_new_check_judges_afresh_and_the_same_check_does_not(tmp_path: Path) -> None:
    judge = RulesJudge()
    one, other = (
        constitution(f"id: p, checks: [{{type: max_words, value: {value}}}]").principles[0] for value in (2, 3)
    )
    a, b = pair()
    assert judge.key(one, prompt(), a, None) == judge.key(one, prompt("q"), a, None)
    assert (
        len({judge.key(one, prompt(), a, None), judge.key(other, prompt(), a, None), judge.key(one, prompt(), b, None)})
        == 3
    )
