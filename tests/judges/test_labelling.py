"""The engine against a fake server: what is asked, what is reused, when it stops, and what survives a kill."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from constitutions.schema import Constitution
from judges.labelling import Collection, collect_verdicts, over_budget
from judges.labels import compute_labels
from judges.model_judge import ModelJudge
from judges.questions import Questionnaire
from judges.statistics import order_statistics
from ratify.client import ChatClient
from ratify.errors import BudgetError, EndpointError, StoreError
from ratify.lineage import ROOT
from ratify.sections import JudgeSection
from ratify.types import Failure
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
) -> tuple[Questionnaire, Collection]:
    prompts, pairs = world or many(10)
    settings = settings or section()

    async def label() -> tuple[Questionnaire, Collection]:
        async with ChatClient(settings, server.url, settings.model) as client:
            judge = ModelJudge(settings, client)
            sheet = asked(judge, rules, prompts, pairs)
            budget = settings.failure_budget
            return sheet, await collect_verdicts(sheet.questions, judge, store, failure_budget=budget)

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
    assert 0 < server.requests - store.count() <= 8 and store.count() > 8


CHILD = """
import asyncio, sys
from pathlib import Path
from judges.labelling import collect_verdicts
from judges.model_judge import ModelJudge
from ratify.client import ChatClient
from ratify.verdict_store import VerdictStore
from tests.judges.test_labelling import RULES, section
from tests.judges.worlds import asked, many

async def main():
    settings = section(concurrency=16)
    async with ChatClient(settings, sys.argv[1], "fake") as client:
        judge = ModelJudge(settings, client)
        questions = asked(judge, RULES, *many(100)).questions
        await collect_verdicts(questions, judge, VerdictStore.in_folder(Path(sys.argv[2])), failure_budget=0.02)

asyncio.run(main())
"""


def test_kill_9_loses_no_verdict_and_pays_again_only_what_was_in_flight(server: FakeServer, tmp_path: Path) -> None:
    """600 verdicts, 16 in flight, killed at random moments until a run gets through."""
    server.latency_s = 0.02
    draw = random.Random(7)
    kills = 0
    stored = 0
    while stored < 600:
        before = server.requests
        child = subprocess.Popen([sys.executable, "-c", CHILD, server.url, str(tmp_path)], cwd=ROOT)
        waiting_for = before + draw.randint(20, 250)
        while child.poll() is None and server.requests < waiting_for:
            time.sleep(0.002)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            kills += 1
        child.wait()
        store = VerdictStore.in_folder(tmp_path)
        assert store.count() >= stored
        stored = store.count()
        store.close()
    time.sleep(0.1)
    paid_again = server.requests - 600
    print(json.dumps({"kills": kills, "paid_again": paid_again}))
    assert kills >= 2 and 0 <= paid_again <= 16 * kills
    assert len(set(server.texts)) == 600
