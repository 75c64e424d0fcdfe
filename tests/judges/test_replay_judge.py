"""The replay judge: what was recorded comes back to the last bit, what was not is a failure; and LLMBar's own figures
from its recorded runs."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judges.agreement_statistics import cohen_kappa
from judges.bias import measure_bias, require_fair, two_orders
from judges.labelling import Collection, collect_verdicts
from judges.llmbar_recordings import LlmbarRun, load_llmbar_run
from judges.questions import Questionnaire
from judges.replay_judge import (
    NOT_RECORDED,
    RecordedVerdict,
    ReplayJudge,
    read_recording,
    record_verdicts,
    write_recording,
)
from judges.rules_judge import RulesJudge
from judges.statistics import order_statistics
from ratify.errors import BudgetError, InputError
from ratify.intervals import Resampling
from ratify.sections import JudgeSection
from ratify.types import Failure
from ratify.verdict_store import VerdictStore
from tests.judges.worlds import asked, constitution, many

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "realdata" / "llmbar_recorded_judges"
RUNS = [f"natural_{judge}_{kind}" for judge in ("GPT-4", "ChatGPT", "Falcon") for kind in ("Vanilla", "CoT")]
RULES = constitution("id: follows, text: Prefer the output that carries out the instruction better")
CHECKED = constitution("id: short, checks: [{type: max_words, value: 2}]")


def collect(sheet: Questionnaire, judge: Any, folder: Path, budget: float = 1.0) -> Collection:
    store = VerdictStore.in_folder(folder)
    try:
        return asyncio.run(collect_verdicts(sheet.questions, judge, store, failure_budget=budget))
    finally:
        store.close()


@pytest.mark.parametrize("protocol", ["pointwise", "pairwise"])
def test_a_recorded_run_replays_from_its_file_to_the_last_bit(tmp_path: Path, protocol: Any) -> None:
    prompts, pairs = many(7)
    judge = RulesJudge(protocol)
    sheet = asked(judge, CHECKED, prompts, pairs)
    first = collect(sheet, judge, tmp_path / "first")
    write_recording(tmp_path / "run.jsonl", record_verdicts(sheet.questions, first.verdicts.values()))
    replay = ReplayJudge(read_recording(tmp_path / "run.jsonl"), protocol)
    again = asked(replay, CHECKED, prompts, pairs)
    second = collect(again, replay, tmp_path / "second", budget=0.0)
    said = [[first.verdicts[key].logit for both in of_pair.values() for key in both] for of_pair in sheet.keys]
    repeated = [[second.verdicts[key].logit for both in of_pair.values() for key in both] for of_pair in again.keys]
    assert said == repeated and not second.failures


def test_an_edited_principle_is_not_answered_with_the_old_verdict(tmp_path: Path) -> None:
    prompts, pairs = many(2)
    judge = RulesJudge()
    sheet = asked(judge, CHECKED, prompts, pairs)
    recorded = record_verdicts(sheet.questions, collect(sheet, judge, tmp_path / "a").verdicts.values())
    edited = constitution("id: short, text: Something else, checks: [{type: max_words, value: 2}]")
    replay = ReplayJudge(recorded, "pointwise")
    found = collect(asked(replay, edited, prompts, pairs), replay, tmp_path / "b")
    assert not found.verdicts and set(found.failures.values()) == {Failure.TRANSPORT_ERROR}
    assert VerdictStore.in_folder(tmp_path / "b").failures()[0][2].startswith(NOT_RECORDED)


def test_recorded_failures_stay_failures_with_their_raw_text(tmp_path: Path) -> None:
    prompts, pairs = many(1)
    judge = RulesJudge()
    sheet = asked(judge, CHECKED, prompts, pairs)
    lost = [question.failed("x", Failure.REFUSED, "I will not.") for question in sheet.questions.values()]
    replay = ReplayJudge(record_verdicts(sheet.questions, lost), "pointwise")
    found = collect(asked(replay, CHECKED, prompts, pairs), replay, tmp_path)
    assert set(found.failures.values()) == {Failure.REFUSED}
    assert VerdictStore.in_folder(tmp_path).failures()[0][2] == "I will not."


def test_two_answers_to_one_question_are_refused() -> None:
    with pytest.raises(InputError, match="two different answers"):
        ReplayJudge([RecordedVerdict(shown="x", logit=1.0), RecordedVerdict(shown="x", logit=2.0)], "pairwise")


def test_another_recording_is_another_judge() -> None:
    one, other = (ReplayJudge([RecordedVerdict(shown="x", logit=value)], "pairwise") for value in (1.0, 2.0))
    assert one.fingerprint != other.fingerprint


def test_a_file_that_is_no_recorded_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json.gz").write_text("no")
    with pytest.raises(InputError, match="no recorded LLMBar run"):
        load_llmbar_run(tmp_path / "x.json.gz", RULES.principles[0])


def winners(run: LlmbarRun, sheet: Questionnaire, found: Collection) -> np.ndarray:
    """Preferred output, "1", "2" or "" (unread), shape (pairs, 2 orders)."""
    rows = []
    for keys in sheet.keys:
        both = keys["follows"]
        plain, swapped = (found.verdicts[key].logit if key in found.verdicts else None for key in both)
        rows.append([_output(plain, "1", "2"), _output(swapped, "2", "1")])
    return np.array(rows)


def _output(logit: float | None, first: str, second: str) -> str:
    return "" if logit is None else (first if logit > 0 else second)


def authors_statistics(said: np.ndarray, gold: np.ndarray) -> dict[str, Any]:
    """The figures of LLMBar's `LLMEvaluator/evaluate.py`, spelt as its JSON.

    Its kappa codes output 1 as 1 and output 2 or an unread answer as 0, but gold as 1 and 2: `kappa_False` and
    `kappa_True` therefore never credit an agreement on output 2. They are reproduced here as published; the kappa that
    was meant is in `test_kappa_with_gold_is_far_above_the_published_one`.
    """
    right, n, how = said == gold[:, None], len(gold), Resampling(draws=2)
    coded = (said == "1").astype(int)

    def kappa(one: np.ndarray, other: np.ndarray) -> float:
        return cohen_kappa(one, other, range(n), how).value

    plain, swapped, both, equal = (
        *(int(right[:, order].sum()) for order in (0, 1)), int(right.all(axis=1).sum()),
        int((said[:, 0] == said[:, 1]).sum()),
    )  # fmt: skip
    per_order = [kappa(coded[:, order], gold.astype(int)) for order in (0, 1)]
    return {
        "correct_False": f"{plain} / {n} = {plain / n * 100}%",
        "correct_True": f"{swapped} / {n} = {swapped / n * 100}%",
        "correct_average": f"{(plain + swapped) / 2 / n * 100}%",
        "correct_both": f"{both} / {n} = {both / n * 100}%",
        "equal": f"{equal} / {n} = {equal / n * 100}%",
        "kappa_False": per_order[0],
        "kappa_True": per_order[1],
        "kappa_average": sum(per_order) / 2,
        "kappa_agreement": kappa(coded[:, 0], coded[:, 1]),
    }


def replayed(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray, Questionnaire, Collection]:
    path = RECORDINGS / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"the recorded LLMBar runs are not at {RECORDINGS}")
    run = load_llmbar_run(path, RULES.principles[0])
    judge = ReplayJudge(run.recorded, "pairwise", name)
    sheet = asked(judge, RULES, run.prompts, run.pairs)
    found = collect(sheet, judge, folder)
    return winners(run, sheet, found), np.array([{"a": "1", "b": "2"}[side] for side in run.gold]), sheet, found


@pytest.mark.realdata
@pytest.mark.parametrize("name", RUNS)
def test_replaying_llmbar_gives_exactly_the_authors_statistics(name: str, tmp_path: Path) -> None:
    said, gold, _, _ = replayed(name, tmp_path)
    published = json.loads((RECORDINGS / f"{name}.statistics.json").read_text())
    computed = authors_statistics(said, gold)
    assert computed.keys() == published.keys()
    for figure, value in published.items():
        assert computed[figure] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-12)), figure


@pytest.mark.realdata
def test_kappa_with_gold_is_far_above_the_published_one(tmp_path: Path) -> None:
    """GPT-4, plain order: 95 of 100 right; gold has output 1 42 times, the judge 43: κ = (.95 − .5112)/(1 − .5112)."""
    said, gold, _, _ = replayed("natural_GPT-4_Vanilla", tmp_path)
    found = cohen_kappa((said[:, 0] == "1").astype(int), (gold == "1").astype(int), range(100), Resampling(draws=2))
    ones = int((said[:, 0] == "1").sum())
    chance = (42 * ones + 58 * (100 - ones)) / 10_000
    assert found.value == pytest.approx((0.95 - chance) / (1 - chance)) and found.value > 0.89


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "rate"), [("natural_GPT-4_Vanilla", 0.05), ("natural_Falcon_CoT", 0.86)])
def test_order_statistics_of_recorded_judges(name: str, rate: float, tmp_path: Path) -> None:
    """1 − the authors' order agreement, where every answer was read."""
    _, _, sheet, found = replayed(name, tmp_path)
    assert order_statistics(sheet.keys, found.verdicts).same_position_rate == pytest.approx(rate)


@pytest.mark.realdata
def test_the_one_answer_the_authors_could_not_read_is_a_failure(tmp_path: Path) -> None:
    _, _, _, found = replayed("natural_ChatGPT_CoT", tmp_path)
    assert list(found.failures.values()) == [Failure.PARSE_ERROR]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "refused"), [("GPT-4_Vanilla", 0), ("Falcon_Vanilla", 1), ("Falcon_CoT", 1)])
def test_falcon_is_refused_for_its_position_bias_and_gpt_4_is_not(name: str, refused: int, tmp_path: Path) -> None:
    _, _, sheet, found = replayed(f"natural_{name}", tmp_path)
    pairs = two_orders(sheet, found.verdicts)["follows"]
    bias = measure_bias(name, "follows", pairs, Resampling(draws=100))
    with pytest.raises(BudgetError, match="same position") if refused else nullcontext():
        require_fair(bias, JudgeSection(model="m").max_same_position)
