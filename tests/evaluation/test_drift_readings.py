"""What each part of a drift check says of histories and sets whose truth is known; nothing missing is ever steady."""

import json

import numpy as np
import pytest

from evaluation.drift_record import DriftReport, missing
from evaluation.intervals import Estimate, Resampling
from evaluation.judge_drift import JudgeCheck, judge_readings, promised, slice_of
from evaluation.policy_drift import policy_readings
from evaluation.prompt_drift import alarms, featured, hash_of, prompt_effects, prompt_readings
from evaluation.report import EvaluationReport, Repeated, RunIdentity
from evaluation.reward_drift import reward_readings
from evaluation.reward_quality import FreshPair
from ratify.lineage import ROOT

HOW = Resampling(draws=200)


def check(kind: str, answers: dict[str, float | None], judge: str = "j1", number: int = 1) -> JudgeCheck:
    return JudgeCheck.model_validate(
        {"number": number, "kind": kind, "time": "2026-01-02T03:04:05", "judge": judge, "constitution": "c",
         "gold": "g", "answers": answers}
    )  # fmt: skip


def answers(right: int, of: int, start: int = 0) -> dict[str, float | None]:
    """`right` of them right, spread evenly."""
    return {f"p{start + k}": (1.0 if (k + 1) * right // of > k * right // of else -1.0) for k in range(of)}


def states(history: list[JudgeCheck]) -> dict[str, str]:
    return {reading.name: reading.state for reading in judge_readings(history)}


def test_slices_are_disjoint_until_the_gold_is_used_up() -> None:
    pairs = [f"p{k}" for k in range(30)]
    first, second, third, again = (slice_of(pairs, number, 10) for number in range(4))
    assert sorted(first + second + third) == sorted(pairs) and len(again) == 10
    assert sorted(again) != sorted(first), "the next turn is shuffled anew"
    assert slice_of(pairs, 5, 100) != [] and len(slice_of(pairs, 5, 100)) == 30


def test_a_judge_that_was_never_asked_is_not_steady() -> None:
    assert states([]) == {"agreement with gold": "insufficient"}
    assert states([check("baseline", {"p1": None})]) == {"agreement with gold": "insufficient"}


def test_the_same_answers_are_steady_and_a_flipped_judge_is_not() -> None:
    before = answers(270, 300)
    steady = [check("baseline", before), check("slice", {name: before[name] for name in list(before)[:100]})]
    assert set(states(steady).values()) == {"steady"}
    turned = {name: -lead for name, lead in list(before.items())[:100] if lead is not None}
    found = states([steady[0], check("slice", turned)])
    assert found["check against the epoch's baseline"] == "drift"
    assert found["stream of the epoch"] == "drift"


def test_every_alarm_says_how_far_it_can_be_trusted() -> None:
    before = answers(270, 300)
    for reading in judge_readings([check("baseline", before), check("slice", before)])[1:]:
        assert reading.false_alarms is not None and 0 <= reading.false_alarms < 0.2
        assert reading.false_alarms_from and reading.detectable and reading.n


def test_another_judge_begins_an_epoch_and_is_held_against_the_last_one() -> None:
    first, same = check("baseline", answers(270, 300)), check("baseline", answers(270, 300), "j2")
    found = judge_readings([first, check("slice", answers(0, 100)), same])
    assert [reading.state for reading in found] == ["steady", "new epoch"]
    assert "another judge" in found[1].text
    worse = judge_readings([first, check("baseline", answers(210, 300), "j2")])
    assert worse[1].state == "drift" and worse[1].p_value is not None and worse[1].p_value < 1e-6
    foreign = judge_readings([first, check("baseline", answers(270, 300, start=1000), "j2")])
    assert foreign[1].state == "new epoch" and "no pair was judged by both" in foreign[1].text


def test_the_stream_of_an_epoch_never_holds_values_of_the_last_one() -> None:
    bad = check("slice", answers(0, 300))
    history = [check("baseline", answers(270, 300)), bad, check("baseline", answers(30, 300), "j2")]
    history.append(check("slice", answers(30, 300), "j2"))
    found = {reading.name: reading for reading in judge_readings(history)}
    assert found["stream of the epoch"].state == "steady" and found["stream of the epoch"].n == 300


def test_a_silent_judge_is_not_steady() -> None:
    silent: dict[str, float | None] = {**answers(80, 90), **{f"p{k}": None for k in range(90, 100)}}
    found = states([check("baseline", answers(270, 300)), check("slice", silent)])
    assert found["answers"] == "insufficient"


def test_the_promise_is_a_lower_bound() -> None:
    """Clopper and Pearson at 80 % one-sided for 9 of 10: P(X ≥ 9 | p) = 0.2 at p = 0.7291."""
    least = promised(answers(9, 10))
    assert 10 * least**9 * (1 - least) + least**10 == pytest.approx(0.2, abs=1e-9)


def demo_prompts(*tags: str) -> list[str]:
    rows = [json.loads(line) for line in (ROOT / "data/demo/prompts/train.jsonl").read_text().splitlines()]
    return [row["messages"][-1]["content"] for row in rows if bool(set(row["tags"]) & set(tags)) == bool(tags)]


def test_a_second_topic_is_seen_and_halves_of_one_topic_are_not() -> None:
    rows = [json.loads(line) for line in (ROOT / "data/demo/prompts/train.jsonl").read_text().splitlines()]
    texts = [row["messages"][-1]["content"] for row in rows if not {"plus", "minus"} & set(row["tags"])]
    order = np.random.default_rng(5).permutation(len(texts))
    reference, current = ([texts[k] for k in order[part::2]] for part in (0, 1))
    steady = prompt_readings(reference, current)
    assert [reading.state for reading in steady] == ["steady"] * 3
    assert all(reading.false_alarms is not None and reading.false_alarms <= 0.15 for reading in steady)
    assert all(reading.detectable and reading.n == len(texts) for reading in steady)
    moved = prompt_effects(*featured(reference, current[:200] + demo_prompts("plus", "minus")[:100]))
    assert alarms(moved)[:2] == [True, True] and moved[0].p_value == 0.001


def test_the_same_prompts_in_another_order_are_steady_and_too_few_are_not() -> None:
    texts = [f"prompt number {k}" for k in range(60)]
    assert prompt_readings(texts, texts[::-1])[0].state == "steady"
    assert prompt_readings(texts, texts[:10])[0].state == "insufficient"
    assert prompt_readings([], [])[0].state == "insufficient"


def test_empty_prompts_and_broken_characters_are_read() -> None:
    texts = ["" if k % 3 else f"so {k} \ud800" for k in range(90)]
    effects = prompt_effects(*featured(texts, texts[:50]), permutations=99)
    assert all(np.isfinite(effect.value) and 0 < effect.p_value <= 1 for effect in effects)


def test_a_text_is_always_in_the_same_half() -> None:
    assert hash_of("so it is") == hash_of("so it is") != hash_of("so is it")
    halves = np.array([hash_of(f"text {k}") & 1 for k in range(2000)])
    assert 0.45 < halves.mean() < 0.55


def pairs(accuracy: float, count: int = 400) -> list[FreshPair]:
    generator = np.random.default_rng(6)
    return [FreshPair(f"p{k}", 1.2, bool(generator.random() < accuracy)) for k in range(count)]


def validation(value: float, n: int = 400) -> Estimate:
    return Estimate(value=value, low=value - 0.05, high=value + 0.05, n=n, clusters=n, confidence=0.95)


def test_a_reward_model_is_held_to_what_it_promised() -> None:
    kept = reward_readings(pairs(0.77), validation(0.77), HOW)
    assert [reading.state for reading in kept] == ["steady", "steady"]
    broken = reward_readings(pairs(0.5), validation(0.77), HOW)
    assert broken[0].state == "drift" and broken[1].state == "drift"
    assert broken[0].false_alarms is not None and broken[0].false_alarms <= 0.08


def test_a_reward_model_without_promise_or_pairs_is_not_steady() -> None:
    assert reward_readings(pairs(0.8), None, HOW)[0].state == "insufficient"
    assert reward_readings([], validation(0.8), HOW)[0].state == "insufficient"
    assert reward_readings(pairs(0.8, 5), validation(0.8), HOW)[1].state == "insufficient"


def policy_report(now: float, spread: float = 0.004, seeds: int = 5) -> EvaluationReport:
    def known(value: float) -> Estimate:
        return Estimate(value=value, low=value - 0.01, high=value + 0.01, n=800, clusters=400, confidence=0.95)

    steps = np.linspace(-1, 1, seeds) * spread
    return EvaluationReport(
        conclusion=("So it is.",), identity=RunIdentity(run="r"),
        metrics={
            "evaluate/distinct_2/old": known(0.40), "evaluate/distinct_2/new": known(now),
            "evaluate/words/old": known(20.0), "evaluate/words/new": known(20.0),
            "evaluate/kl/k3_per_reply": known(2.0),
        },
        repeated_samples={
            "evaluate/distinct_2/new": Repeated(values=tuple(now + steps), spread=spread),
            "evaluate/words/new": Repeated(values=tuple(20 + 10 * steps), spread=10 * spread),
        } if seeds else {},
    )  # fmt: skip


def test_a_change_beyond_chance_and_floor_is_drift() -> None:
    found = {reading.name: reading.state for reading in policy_readings(policy_report(0.30), None)}
    assert found["wording against its parent"] == "drift" and found["length against its parent"] == "steady"
    small = {reading.name: reading.state for reading in policy_readings(policy_report(0.395, 0.0004), None)}
    assert small["wording against its parent"] == "steady", "sure, and below the floor of two points"
    noisy = {reading.name: reading.state for reading in policy_readings(policy_report(0.36, 0.05), None)}
    assert noisy["wording against its parent"] == "steady", "four points that seeds differ by anyway"


def test_small_losses_add_up_against_the_first_policy() -> None:
    first = {"evaluate/distinct_2": policy_report(0.5).metrics["evaluate/distinct_2/new"]}
    found = {reading.name: reading.state for reading in policy_readings(policy_report(0.395), first)}
    assert found["wording against its parent"] == "steady"
    assert found["wording against the first policy"] == "drift"


def test_a_policy_that_was_sampled_once_is_not_steady() -> None:
    found = policy_readings(policy_report(0.4, seeds=0), None, max_kl=1.0)
    assert [reading.state for reading in found] == ["drift", "insufficient"], "KL of 2 is over the limit of 1"
    bare = policy_report(0.4).model_copy(update={"metrics": {}})
    assert {reading.state for reading in policy_readings(bare, None)} == {"insufficient"}


def test_the_worst_reading_is_the_answer() -> None:
    said = {"steady": policy_readings(policy_report(0.4), None)[0], "lost": missing("judge", "x", "nobody asked")}
    report = DriftReport(run="r", round=0, time="", alpha=0.05, readings=(said["steady"], said["lost"]))
    assert report.state == "insufficient"
