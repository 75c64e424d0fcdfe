"""Each read-out against a scripted server: what is asked, what is read (by hand), what fails, what is asked again."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from typing import Any

import pytest

from judges import reasks
from judges.labelling import Collection, collect_verdicts
from judges.model_judge import ModelJudge
from judges.questions import Question
from judges.readouts.reading import seed_of
from judges.readouts.reasoning import LEAD_IN
from judges.readouts.score import SCORES, mean_score, score_log_odds, score_masses, split_one
from judges.readouts.votes import vote_log_odds
from judges.reasks import attempt_key
from ratify.sections import JudgeSection
from ratify.types import Failure, Verdict
from ratify.verdict_store import VerdictStore
from tests.judges.readouts.scripted_server import Says, Script, ScriptedServer, section, with_server
from tests.judges.readouts.test_verdict_text import FORGERIES
from tests.judges.worlds import constitution, pair, prompt

PRINCIPLE = constitution("id: p, text: Be kind.").principles[0]


def ask(settings: JudgeSection, script: Script) -> tuple[list[Verdict], list[dict[str, Any]], Question]:
    """All attempts at one question, the requests they took, and the question."""

    async def work(client: Any, server: ScriptedServer) -> tuple[list[Verdict], list[dict[str, Any]], Question]:
        judge = ModelJudge(settings, client, model_hash="m")
        question = question_for(judge)
        kept: list[Verdict] = []

        async def keep(*verdicts: Verdict) -> None:
            kept.append(verdicts[-1])

        await reasks.ask(judge, question, keep)
        return kept, server.requests, question

    found: tuple[list[Verdict], list[dict[str, Any]], Question] = with_server(settings, script, work)
    return found


def question_for(judge: ModelJudge, first: str = "One.", second: str = "Two.") -> Question:
    a, b = pair(first, second)
    other = b if judge.protocol == "pairwise" else None
    return Question(judge.key(PRINCIPLE, prompt(), a, other), PRINCIPLE, prompt(), a, other)


def in_turn(*answers: Says) -> Script:
    """The answers one after the other; the last one for ever."""
    left = list(answers)
    return lambda _body: left.pop(0) if len(left) > 1 else left[0]


def key_of(**changes: Any) -> str:
    return question_for(ModelJudge(section(**changes), model_hash="m")).key


# --- keys


def test_the_keys_of_stored_one_token_verdicts_have_not_changed() -> None:
    """Literal hashes of the first release: verdicts in people's stores answer for ever."""
    expected = {
        "pointwise": (
            "83704f47958d3aa80b925f5adf5a5f3ea443d7b1ce272da360da8d629a0b372b",
            "4c23952e2152abbc6bb6fc34a30d44049b11d1486bb29deacef36b8451b22145",
        ),
        "pairwise": (
            "c810fba6a34db3cb3184545447e25432f01c981ea7ea7f950a10e0efda9a2318",
            "25b88a61f5c2bb0dc4f9d9f5b70c80137ff296856b8bff3719f59e8bcc6e300e",
        ),
    }
    for protocol, (fingerprint, key) in expected.items():
        judge = ModelJudge(JudgeSection.model_validate({"model": "m", "protocol": protocol}))
        assert (judge.fingerprint, question_for(judge).key) == (fingerprint, key)


def test_each_readout_is_another_judge() -> None:
    plain = [
        key_of(protocol="pointwise", readout=name) for name in ("logprobs", "reasoning", "json", "samples", "score")
    ]
    assert len(set(plain)) == 5
    assert key_of(readout="samples", samples=5) == plain[3] != key_of(readout="samples", samples=6)
    assert key_of(readout="samples", temperature=0.5) != plain[3]
    assert key_of(readout="reasoning", max_text_tokens=64) != plain[1]
    assert key_of(readout="reasoning", answer_turn="turn") != key_of(readout="reasoning", answer_turn="prefill")
    assert key_of(readout="json", schema_by="structured_outputs") != plain[2]


def test_re_asks_concurrency_and_coverage_limits_leave_the_keys_alone() -> None:
    for name in ("logprobs", "samples", "reasoning"):
        assert key_of(readout=name) == key_of(readout=name, max_reasks=0, concurrency=3, min_coverage=0.9)


def test_samples_of_different_questions_have_different_seeds() -> None:
    judge = ModelJudge(section(readout="samples", protocol="pairwise"), model_hash="m")
    assert question_for(judge).key != question_for(judge, "Two.", "One.").key
    assert len({seed_of(base, number) for base in ("x", "y") for number in range(50)}) == 100
    assert 0 <= seed_of("x", 0) < 2**31


# --- reasoning


def reasons(body: dict[str, Any]) -> Says:
    return Says("A is kind.") if body["max_tokens"] > 1 else Says(first={" A": 0.6, "B": 0.2, "The": 0.2})


def test_reasoning_reads_one_token_after_its_own_text() -> None:
    (verdict,), (first, second), _ = ask(section(readout="reasoning", protocol="pairwise"), reasons)
    assert verdict.logit == pytest.approx(log(3)) and verdict.coverage == pytest.approx(0.8)
    assert first["max_tokens"] == 512 and first["temperature"] == 0 and "seed" not in first and "logprobs" not in first
    assert second["messages"] == [*first["messages"], {"role": "assistant", "content": "A is kind." + LEAD_IN}]
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    assert second["max_tokens"] == 1 and second["top_logprobs"] == 20
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (200, 4) and verdict.raw.startswith("A is kind.")


def test_reasoning_takes_a_second_turn_where_a_message_cannot_be_continued() -> None:
    settings = section(readout="reasoning", protocol="pairwise", answer_turn="turn")
    (verdict,), (_, second), _ = ask(settings, reasons)
    assert verdict.logit == pytest.approx(log(3))
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][2]["content"] == "So which reply follows the principle better? Answer A or B."
    assert "continue_final_message" not in second


def test_a_server_by_address_gets_a_second_turn_unless_told_otherwise() -> None:
    by_url = {"readout": "reasoning", "base_url": "http://127.0.0.1:1/v1"}
    assert key_of(**by_url) == key_of(readout="reasoning", answer_turn="turn")
    assert key_of(**by_url, answer_turn="prefill") == key_of(readout="reasoning")


def test_reasoning_that_names_an_answer_does_not_decide_it() -> None:
    def script(body: dict[str, Any]) -> Says:
        return Says("Final answer: A\nVerdict: A") if body["max_tokens"] > 1 else Says(first={"B": 0.9, "A": 0.1})

    (verdict,), _, _ = ask(section(readout="reasoning", protocol="pairwise"), script)
    assert verdict.logit == pytest.approx(-log(9))


@pytest.mark.parametrize(("bad", "failure"), [
    (Says("A is", finish="length"), Failure.TRUNCATED), (Says("I'm sorry, I can't do that."), Failure.REFUSED),
    (Says("", finish="content_filter"), Failure.REFUSED), (Says(" "), Failure.PARSE_ERROR),
])  # fmt: skip
def test_reasoning_that_fails_is_drawn_again_with_a_seed(bad: Says, failure: Failure) -> None:
    settings = section(readout="reasoning", protocol="pairwise")
    script = in_turn(bad, Says("A is kind."), Says(first={"A": 0.9, "B": 0.1}))
    (failed, verdict), (first, again, _), question = ask(settings, script)
    assert failed.failure is failure and failed.key == attempt_key(question.key, 0) and failed.raw == bad.text
    assert verdict.key == question.key and verdict.logit == pytest.approx(log(9)) and verdict.failure is None
    assert first["temperature"] == 0 and again["temperature"] == 0.7 and 0 <= again["seed"] < 2**31
    assert verdict.prompt_tokens == 300


# --- json


def test_json_counts_as_one_vote() -> None:
    answer = json.dumps({"reasoning": "Two is rude.", "verdict": "A"})
    (verdict,), (request,), _ = ask(section(readout="json", protocol="pairwise"), lambda _body: Says(answer))
    assert verdict.logit == pytest.approx(log(3)) and verdict.coverage == 1.0 and verdict.raw == answer
    form = request["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    assert list(form["json_schema"]["schema"]["properties"]) == ["reasoning", "verdict"]
    assert form["json_schema"]["schema"]["properties"]["verdict"]["enum"] == ["A", "B"]


def test_json_by_structured_outputs() -> None:
    settings = section(readout="json", schema_by="structured_outputs")
    answer = '{"reasoning": "", "verdict": "No"}'
    (verdict,), (request,), _ = ask(settings, lambda _body: Says(answer))
    assert verdict.logit == pytest.approx(-log(3)) and "response_format" not in request
    assert request["structured_outputs"]["json"]["properties"]["verdict"]["enum"] == ["Yes", "No"]


# --- samples


def marked(answers: list[str]) -> Script:
    """Text that ends with a marked verdict, one answer after the other."""
    left = list(answers)

    def script(body: dict[str, Any]) -> Says:
        marker = body["messages"][0]["content"].split("`Verdict ")[1][:6]
        return Says(f"Hm.\nVerdict {marker}: {left.pop(0)}")

    return script


def test_samples_count_the_share_of_the_answers() -> None:
    """Four of five for A: ln(4.5/1.5) = ln 3."""
    settings = section(readout="samples", protocol="pairwise")
    (verdict,), requests, _ = ask(settings, marked(["A", "A", "B", "A", "A"]))
    assert verdict.logit == pytest.approx(log(3)) and verdict.coverage == 1.0
    assert len(requests) == 5 == len({request["seed"] for request in requests})
    assert {request["temperature"] for request in requests} == {1.0} and "logprobs" not in requests[0]
    assert (verdict.prompt_tokens, verdict.completion_tokens) == (500, 20)


def test_unreadable_samples_are_nobody_s_votes() -> None:
    """Two of four for A, one for B, one unreadable: ln(2.5/1.5), coverage 3/4."""
    settings = section(readout="samples", samples=4, protocol="pairwise")
    (verdict,), _, _ = ask(settings, marked(["A", "C", "B", "A"]))
    assert verdict.logit == pytest.approx(log(2.5 / 1.5)) and verdict.coverage == 0.75


def test_too_few_readable_samples_fail_and_other_seeds_are_drawn() -> None:
    settings = section(readout="samples", samples=2, min_coverage=0.6, protocol="pairwise")
    (failed, verdict), requests, question = ask(settings, marked(["A", "?", "A", "A"]))
    assert failed.failure is Failure.PARSE_ERROR and failed.coverage == 0.5 and failed.logit is None
    assert verdict.key == question.key and verdict.logit == pytest.approx(log(5))
    assert len({request["seed"] for request in requests}) == 4


def test_the_vote_s_log_odds() -> None:
    assert vote_log_odds(5, 0) == pytest.approx(log(11)) and vote_log_odds(0, 5) == pytest.approx(-log(11))
    assert vote_log_odds(2, 2) == 0.0


@pytest.mark.parametrize("forged", FORGERIES)
def test_a_forgery_that_the_judge_repeats_word_for_word_does_not_steer_it(forged: str) -> None:
    """The judge quotes reply A in full, then says B; by text and by JSON."""

    def script(body: dict[str, Any]) -> Says:
        shown = body["messages"][0]["content"]
        quote = shown.split("Reply A:\n")[1].split("\n\nReply B:\nTwo.")[0]
        assert quote == forged
        if "response_format" in body:
            return Says(json.dumps({"reasoning": quote, "verdict": "B"}))
        marker = shown.rpartition("`Verdict ")[2][:6]
        return Says(f"{quote}\nVerdict {marker}: B\nReply A said:\n{quote}")

    for settings in (section(readout="json", protocol="pairwise"), section(readout="samples", protocol="pairwise")):

        async def work(client: Any, _server: ScriptedServer, settings: JudgeSection = settings) -> Verdict:
            judge = ModelJudge(settings, client, model_hash="m")
            return await judge.answer(question_for(judge, forged))

        verdict = with_server(settings, script, work)
        assert verdict.logit is not None and verdict.logit < 0


# --- score


def test_a_score_is_the_mean_of_the_score_tokens() -> None:
    """.5 on 8, .3 on 9, .1 on 10, .1 elsewhere: s = (4 + 2.7 + 1) / .9 = 8.5556, share .80556."""
    first = {"8": 0.5, " 9": 0.3, "10": 0.1, "Well": 0.1}
    (verdict,), requests, _ = ask(section(readout="score"), lambda _body: Says(first=first))
    assert len(requests) == 1 and verdict.coverage == pytest.approx(0.9)
    share = (7.7 / 0.9 - 0.5) / 10
    assert verdict.logit == pytest.approx(log(share / (1 - share))) and verdict.raw == "score 8.5556"
    assert 10 / (1 + exp(-(verdict.logit or 0))) + 0.5 == pytest.approx(7.7 / 0.9)


def test_a_ten_of_two_tokens_is_told_from_a_one() -> None:
    """.6 on `1`, of which .75 go on with 0 and .05 with another digit: 10 has .45, 1 has .12; 9 has .3."""

    def script(body: dict[str, Any]) -> Says:
        if body["messages"][-1] == {"role": "assistant", "content": "1"}:
            assert body["continue_final_message"] is True
            return Says(first={"0": 0.75, "5": 0.05, "<end>": 0.2})
        return Says(first={"1": 0.6, "9": 0.3, "x": 0.1})

    (verdict,), requests, _ = ask(section(readout="score"), script)
    score = (10 * 0.45 + 1 * 0.12 + 9 * 0.3) / 0.87
    assert len(requests) == 2 and verdict.coverage == pytest.approx(0.87)
    assert verdict.logit == pytest.approx(score_log_odds(score)) and verdict.prompt_tokens == 200


def test_an_ambiguous_one_is_not_counted_where_a_message_cannot_be_continued() -> None:
    script = in_turn(Says(first={"1": 0.6, "9": 0.3, "x": 0.1}))
    (verdict,), requests, _ = ask(section(readout="score", answer_turn="turn"), script)
    assert verdict.failure is Failure.LOW_COVERAGE and verdict.coverage == pytest.approx(0.3) and len(requests) == 1


def test_a_one_is_a_one_where_ten_is_a_token() -> None:
    (verdict,), requests, _ = ask(section(readout="score"), lambda _body: Says(first={"1": 0.98, "10": 0.01}))
    assert len(requests) == 1 and verdict.logit == pytest.approx(score_log_odds((0.98 + 0.1) / 0.99))


def test_score_log_odds_are_finite_symmetric_and_zero_in_the_middle() -> None:
    assert score_log_odds(5.5) == pytest.approx(0.0)
    assert score_log_odds(10.0) == pytest.approx(log(19)) == pytest.approx(-score_log_odds(1.0))
    assert mean_score(dict.fromkeys(SCORES, 0.1)) == pytest.approx(5.5)
    masses = split_one(score_masses({"1": log(0.5)}), {"0": log(0.4), " ": log(0.6)})
    assert masses[1] == pytest.approx(0.3) and masses[10] == pytest.approx(0.2)


# --- what is asked again


def verdict_text(body: dict[str, Any]) -> Says:
    return Says("Well, hard to say.")


@pytest.mark.parametrize(("settings", "script", "failure", "requests"), [
    (section(), in_turn(Says(first={"The": 0.9})), Failure.LOW_COVERAGE, 1),
    (section(), in_turn(Says("Yes")), Failure.NO_LOGPROBS, 1),
    (section(), in_turn(Says(finish="content_filter")), Failure.REFUSED, 1),
    (section(), in_turn(Says(body=[])), Failure.PARSE_ERROR, 1),
    (section(readout="json"), in_turn(Says(body=[])), Failure.PARSE_ERROR, 1),
    (section(readout="json", max_reasks=1), verdict_text, Failure.PARSE_ERROR, 2),
    (section(readout="json", max_reasks=0), verdict_text, Failure.PARSE_ERROR, 1),
    (section(readout="json"), verdict_text, Failure.PARSE_ERROR, 3),
    (section(readout="json"), in_turn(Says("{", finish="length")), Failure.TRUNCATED, 3),
    (section(readout="json"), in_turn(Says(status=500)), Failure.TRANSPORT_ERROR, 1),
    (section(readout="json"), in_turn(Says(status=400, message="maximum context length is 10")), Failure.TRUNCATED, 1),
    (section(readout="samples", samples=2), verdict_text, Failure.PARSE_ERROR, 6),
    (section(readout="samples", samples=2), in_turn(Says(body=[])), Failure.PARSE_ERROR, 6),
    (section(readout="samples", samples=2), in_turn(Says("I cannot judge.")), Failure.REFUSED, 6),
    (section(readout="score"), in_turn(Says(first={"The": 0.9})), Failure.LOW_COVERAGE, 1),
])  # fmt: skip
def test_which_failures_are_asked_again_and_how_often(
    settings: JudgeSection, script: Callable[[Any], Says], failure: Failure, requests: int
) -> None:
    verdicts, asked, question = ask(settings, script)
    assert {verdict.failure for verdict in verdicts} == {failure} and len(asked) == requests
    assert all(verdict.logit is None for verdict in verdicts)
    earlier = [attempt_key(question.key, retry) for retry in range(len(verdicts) - 1)]
    assert [verdict.key for verdict in verdicts] == [*earlier, question.key]


def test_low_coverage_after_reasoning_is_reasoned_about_again() -> None:
    unsure = Says(first={"Both": 0.9, "A": 0.1})
    script = in_turn(Says("Hm."), unsure, Says("Better so."), Says(first={"A": 0.9, "B": 0.1}))
    (failed, verdict), requests, _ = ask(section(readout="reasoning", protocol="pairwise"), script)
    assert failed.failure is Failure.LOW_COVERAGE and "Hm." in failed.raw
    assert verdict.logit == pytest.approx(log(9)) and len(requests) == 4


def test_failed_attempts_are_stored_as_failures_and_only_the_answer_as_a_verdict(tmp_path: Path) -> None:
    store = VerdictStore.in_folder(tmp_path)
    settings = section(readout="json")
    script = in_turn(Says("Hm."), Says("{"), Says('{"reasoning": "", "verdict": "Yes"}'))

    async def work(client: Any, _server: ScriptedServer) -> tuple[str, Collection]:
        judge = ModelJudge(settings, client, model_hash="m")
        question = question_for(judge)
        return question.key, await collect_verdicts({question.key: question}, judge, store, failure_budget=0.0)

    key, found = with_server(settings, script, work)
    assert set(found.verdicts) == {key} and not found.failures and found.statistics.prompt_tokens == 300
    kept = [(attempt_key(key, 0), Failure.PARSE_ERROR, "Hm."), (attempt_key(key, 1), Failure.PARSE_ERROR, "{")]
    assert store.failures() == kept and store.count() == 1 and store.get([key])[key].logit == pytest.approx(log(3))


def test_who_asks_for_the_answer_alone_gets_the_failed_attempts_in_its_raw_text() -> None:
    async def work(client: Any, _server: ScriptedServer) -> Verdict:
        judge = ModelJudge(section(readout="json"), client, model_hash="m")
        return await judge.answer(question_for(judge))

    answer = '{"reasoning": "", "verdict": "Yes"}'
    verdict = with_server(section(readout="json"), in_turn(Says("Hm."), Says(answer)), work)
    assert verdict.raw == f"[attempt 1: parse_error: Hm.]\n{answer}" and verdict.failure is None
