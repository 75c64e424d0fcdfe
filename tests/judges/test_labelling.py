"""The engine against a fake server: what is asked, what is reused, when it stops."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constitutions.schema import Constitution
from judges.labelling import LOOKED_UP_AT_ONCE, Budget, Collection, Tally, collect_verdicts, label_stream, over_budget
from judges.labels import compute_labels
from judges.model_judge import ModelJudge
from judges.question_stream import stream_questions
from judges.questions import Question, Questionnaire
from judges.rules_judge import RulesJudge
from judges.statistics import order_statistics
from ratify.client import ChatClient
from ratify.errors import BudgetError, EndpointError, SpendingError, StoreError
from ratify.lineage import ROOT
from ratify.sections import JudgeSection, PriceSection
from ratify.types import Failure, Verdict
from ratify.verdict_store import VerdictStore
from tests.judges.fake_server import FakeServer
from tests.judges.worlds import asked, completion, constitution, many, pair, prompt

RULES = constitution("id: p", "id: q", "id: r")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore.in_folder(tmp_path)


def section(**changes: Any) -> JudgeSection:
    return JudgeSection(**({"model": "fake", "concurrency": 8, "max_retries": 0, "timeout_s": 5.0} | changes))


def run(
    server: FakeServer,
    store: VerdictStore,
    rules: Constitution = RULES,
    world: Any = None,
    settings: JudgeSection | None = None,
    budget: Budget | None = None,
) -> tuple[Questionnaire, Collection]:
    prompts, pairs = world or many(10)
    settings = settings or section()

    async def label() -> tuple[Questionnaire, Collection]:
        async with ChatClient(settings, server.url, settings.model) as client:
            judge = ModelJudge(settings, client)
            sheet = asked(judge, rules, prompts, pairs)
            allowed = settings.failure_budget
            found = await collect_verdicts(sheet.questions, judge, store, failure_budget=allowed, budget=budget)
            return sheet, found

    return asyncio.run(label())


def test_pointwise_asks_once_per_completion_and_principle(server: FakeServer, store: VerdictStore) -> None:
    sheet, found = run(server, store)
    assert server.requests == 10 * 2 * 3 == store.count() == len(found.verdicts)
    assert found.statistics.calls == 60 and found.statistics.prompt_tokens == 6000
    labels = compute_labels(sheet, found.verdicts, found.failures, RULES, "pointwise")
    assert len(labels) == 10 and all(label.outcome in ("a", "b") for label in labels)


def test_pairwise_asks_both_orders(server: FakeServer, store: VerdictStore) -> None:
    run(server, store, settings=section(protocol="pairwise"))
    assert server.requests == 10 * 2 * 3
    orders = {text.split("Reply A:\n")[1].split(".")[0] for text in server.texts}
    assert {"Yes to p0", "No to p0"} <= orders


def test_a_second_run_asks_nothing_and_gives_the_same(server: FakeServer, store: VerdictStore) -> None:
    _, first = run(server, store)
    _, second = run(server, store)
    assert server.requests == 60 and second.statistics.reused == 60 and second.statistics.calls == 0
    assert second.verdicts == first.verdicts


def test_a_new_text_asks_that_principle_alone(server: FakeServer, store: VerdictStore) -> None:
    run(server, store)
    run(server, store, constitution("id: p", "id: q, text: The reply is better than fine", "id: r"))
    assert server.requests == 60 + 20
    assert all("better than fine" in text for text in server.texts[60:])


def test_weights_order_names_and_checks_ask_nothing(server: FakeServer, store: VerdictStore) -> None:
    run(server, store)
    edited = constitution(
        "id: r2, was: r, text: The reply is fine 2, severity: hard",
        "id: p, text: The reply is fine 0, weight: 7, checks: [{type: max_words, value: 1}]",
        "id: q, text: The reply is fine 1, tier: low",
        more="aggregate: {method: logit_sum}",
    )
    run(server, store, edited)
    assert server.requests == 60


def test_identical_completions_share_their_verdicts(server: FakeServer, store: VerdictStore) -> None:
    a, b = pair("Same.", "Other.")
    twin = completion("Same.", "p/twin")
    run(server, store, world=({"p": prompt()}, [(a, b), (twin, b)]))
    assert server.requests == 2 * 3


def test_principles_out_of_scope_are_not_asked(server: FakeServer, store: VerdictStore) -> None:
    rules = constitution("id: p", "id: q, applies_to: {tags: [medical]}")
    world = ({"p": prompt(), "m": prompt("m", "Am I ill?", ("medical",))}, [pair(), pair(prompt_id="m")])
    run(server, store, rules, world)
    assert server.requests == 2 + 4


def test_another_model_template_or_salt_is_another_judge(
    server: FakeServer, store: VerdictStore, tmp_path: Path
) -> None:
    for name in ("pointwise", "pairwise"):
        text = (ROOT / "judges" / "prompts" / f"{name}.txt").read_text(encoding="utf-8")
        (tmp_path / f"{name}.txt").write_text("Think.\n" + text, encoding="utf-8")
    for settings in (section(), section(model="else"), section(cache_salt="2"), section(prompts_dir=tmp_path)):
        run(server, store, settings=settings)
    assert server.requests == 4 * 60
    run(server, store, settings=section(concurrency=3, timeout_s=9.0, min_coverage=0.9))
    assert server.requests == 4 * 60


def test_requests_in_flight_stay_within_the_endpoint_s_concurrency(server: FakeServer, store: VerdictStore) -> None:
    server.latency_s = 0.02
    run(server, store, settings=section(concurrency=5))
    assert server.most_in_flight == 5


@pytest.mark.parametrize(
    ("fault", "failure"),
    [("html", "parse_error"), ("truncated", "parse_error"), ("500", "transport_error"), ("context", "truncated")],
)
def test_too_many_failures_stop_with_reason_counts_and_raw_text(
    server: FakeServer, store: VerdictStore, fault: str, failure: str
) -> None:
    server.always = fault
    with pytest.raises(
        BudgetError, match=rf"(?s)judging stopped: \d+ of \d+ calls failed .*allows 2.0%.*: \d+ {failure}; "
    ):
        run(server, store)
    assert 20 <= server.requests <= 20 + 8
    assert store.count() == 0 and {kind for _, kind, _ in store.failures()} == {Failure(failure)}


def test_no_log_probabilities_and_low_coverage_are_failures(server: FakeServer, store: VerdictStore) -> None:
    server.answer = lambda text: None
    with pytest.raises(BudgetError, match="no_logprobs"):
        run(server, store)
    server.answer = lambda text: {"The": -0.1, "Yes": -3.0}
    with pytest.raises(BudgetError, match=r"low_coverage; the first one said: .*'The' -0.10"):
        run(server, store)


def test_a_few_failures_within_the_budget_are_kept_and_asked_again(server: FakeServer, store: VerdictStore) -> None:
    server.faults = ["html"]
    _, found = run(server, store)
    assert len(found.verdicts) == 59 and found.statistics.failures == {Failure.PARSE_ERROR: 1}
    _, again = run(server, store)
    assert server.requests == 61 and len(again.verdicts) == 60 and not again.failures


def test_a_small_job_is_judged_at_its_end(server: FakeServer, store: VerdictStore) -> None:
    server.faults = ["html"]
    with pytest.raises(BudgetError, match="1 of 6 verdicts failed"):
        run(server, store, world=many(1))
    assert store.count() == 5


def test_a_raised_coverage_limit_counts_stored_verdicts_again(server: FakeServer, store: VerdictStore) -> None:
    run(server, store)
    with pytest.raises(BudgetError, match="60 low_coverage"):
        run(server, store, settings=section(min_coverage=0.99))
    assert server.requests == 60


def test_a_refused_key_stops_at_once(server: FakeServer, store: VerdictStore) -> None:
    server.always = "401"
    with pytest.raises(EndpointError, match="OPENAI_API_KEY"):
        run(server, store)
    assert server.requests <= 8


def test_a_store_that_cannot_be_written_stops_the_run(server: FakeServer, store: VerdictStore) -> None:
    def full(_verdicts: object) -> None:
        raise StoreError("the disk is full")

    store.append = full  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="disk is full"):
        run(server, store)


class AtMost:
    """A budget of so many requests."""

    def __init__(self, requests: int) -> None:
        self.left = requests
        self.settled: list[str] = []

    def reserve(self, _question: Question) -> None:
        if not self.left:
            raise SpendingError("no request is left")
        self.left -= 1

    def settle(self, verdict: Verdict) -> None:
        self.settled.append(verdict.key)


def test_a_budget_is_asked_before_each_request_and_told_of_each_stored_answer(
    server: FakeServer, store: VerdictStore
) -> None:
    budget = AtMost(25)
    with pytest.raises(SpendingError, match="no request is left"):
        run(server, store, budget=budget)
    assert server.requests <= 25 and set(budget.settled) <= set(store.get(budget.settled))
    run(server, store, budget=AtMost(60 - store.count()))
    assert store.count() == 60


class Notes:
    """Remembers what was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int, str]] = []

    def update(self, done: int, total: int, note: str = "") -> None:
        self.shown.append((done, total, note))

    def say(self, line: str) -> None:
        raise AssertionError(line)


def test_the_display_says_speed_tokens_money_and_failures(
    server: FakeServer, store: VerdictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("judges.labelling.SHOWN_EVERY_S", 0.0)
    server.faults = ["html"]
    notes, prompts_and_pairs = Notes(), many(10)
    price = PriceSection(prompt_per_million=1000.0, completion_per_million=0.0, currency="EUR")

    async def label() -> None:
        async with ChatClient(section(), server.url, "fake") as client:
            judge = ModelJudge(section(), client)
            questions = asked(judge, RULES, *prompts_and_pairs).questions
            await collect_verdicts(questions, judge, store, failure_budget=0.05, progress=notes, price=price)

    asyncio.run(label())
    assert [total for _, total, _ in notes.shown] == [60] * len(notes.shown)
    assert any(re.search(r"[1-8] in flight", note) for _, _, note in notes.shown)
    done, _, last = notes.shown[-1]
    assert done == 60 and re.fullmatch(
        r"[\d,]+ calls/s, 0 in flight, [\d,]+ tokens/s, 5.90 EUR, failed: 1 parse_error", last
    )


def test_a_stream_is_read_as_it_is_asked_and_a_repeated_question_is_asked_once(
    server: FakeServer, store: VerdictStore
) -> None:
    server.latency_s = 0.02
    ahead: list[int] = []
    settings = section(protocol="pairwise")

    async def label() -> Tally:
        async with ChatClient(settings, server.url, "fake") as client:
            judge = ModelJudge(settings, client)
            prompts, pairs = many(100)

            def questions() -> Iterator[Question]:
                for number, question in enumerate(stream_questions(prompts, pairs, RULES.active, judge)):
                    ahead.append(number - server.answered)
                    yield question
                    yield question

            return await label_stream(questions(), judge, store, total=600, failure_budget=0.0)

    tally = asyncio.run(label())
    assert server.requests == store.count() == tally.statistics.calls == 600 and tally.statistics.reused == 0
    assert max(ahead) <= 64 + 8 + 1


def test_a_stream_asks_what_the_questionnaire_asks(server: FakeServer) -> None:
    """Also where completions are shared by pairs, or word for word the same."""
    replies = [completion(text, f"p/{number}") for number, text in enumerate(["Yes.", "No.", "No.", "Who knows."])]
    pairs = [*itertools.combinations(replies, 2), *many(30)[1]]
    prompts = {"p": prompt()} | many(30)[0]
    for protocol in ("pointwise", "pairwise"):
        judge = ModelJudge(section(protocol=protocol))
        streamed = list(stream_questions(prompts, pairs, RULES.active, judge))
        assert streamed == list(asked(judge, RULES, prompts, pairs).questions.values())


def test_over_budget_needs_calls_and_more_than_luck() -> None:
    assert not over_budget(19, 19, 0.02, 1000)
    assert not over_budget(100, 4, 0.02, 100)  # 2 expected, 3 standard errors are 4.2
    assert over_budget(100, 7, 0.02, 100)
    assert not over_budget(30, 30, 0.02, 10_000)  # within what 10,000 may lose
    assert over_budget(60, 60, 0.02, 10_000)
    assert over_budget(20, 1, 0.0, 1000)


def test_order_statistics_find_a_judge_that_prefers_the_first(server: FakeServer, store: VerdictStore) -> None:
    def prefers_first(text: str) -> dict[str, float]:
        return (
            {"A": -0.1, "B": -2.5}
            if "fine 1" in text
            else ({"A": -0.1, "B": -3.0} if "A:\nYes" in text else {"B": -0.1})
        )

    server.answer = prefers_first
    sheet, found = run(server, store, settings=section(protocol="pairwise"))
    orders = order_statistics(sheet.keys, found.verdicts)
    assert orders.compared == 30 and orders.flip_rate == {"p": 0.0, "q": 1.0, "r": 0.0}
    assert orders.same_position_rate == pytest.approx(1 / 3) and orders.first_position_rate == 1.0


def test_ctrl_c_keeps_what_was_answered(server: FakeServer, store: VerdictStore) -> None:
    server.latency_s = 0.05
    prompts, pairs = many(100)

    async def cancelled() -> None:
        settings = section()
        async with ChatClient(settings, server.url, "fake") as client:
            judge = ModelJudge(settings, client)
            sheet = asked(judge, RULES, prompts, pairs)
            task = asyncio.create_task(collect_verdicts(sheet.questions, judge, store, failure_budget=0.02))
            while store.count() <= 8:
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())
    assert 0 <= server.requests - store.count() <= 8 < store.count()


def alive(kind: type) -> int:
    """How many objects of a class there are."""
    gc.collect()
    return sum(isinstance(each, kind) for each in gc.get_objects())


def test_workers_that_wait_hold_no_questions(store: VerdictStore) -> None:
    """All is stored, so every worker looks up, finds nothing to ask, and lets the others run."""
    judge, (prompts, pairs) = RulesJudge("pointwise"), many(600)
    rules = constitution("id: p, checks: [{type: min_words, value: 2}], checks_decide: false")
    asyncio.run(label_stream(stream_questions(prompts, pairs, rules.active, judge), judge, store,
                             total=1200, failure_budget=0.0))  # fmt: skip
    held = []
    others = alive(Question)

    def counted() -> Iterator[Question]:
        for number, question in enumerate(stream_questions(prompts, pairs, rules.active, judge), 1):
            if number % LOOKED_UP_AT_ONCE == 0:
                held.append(alive(Question) - others)
            yield question

    tally = asyncio.run(label_stream(counted(), judge, store, total=1200, failure_budget=0.0))
    assert tally.statistics.reused == 1200 and judge.concurrency * LOOKED_UP_AT_ONCE > 1200
    assert max(held) < 3 * LOOKED_UP_AT_ONCE
