"""A ledger never lets anything be spent beyond a limit, however requests overlap, and loses no answer that was paid."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from judges.budget import JudgingBudget, Ledger, Limits, broken_limit
from judges.usage import CallShape, Usage, most_usage
from ratify.errors import SpendingError
from ratify.sections import PriceSection
from ratify.types import Verdict
from ratify.verdict_store import VerdictStore
from tests.judges.fake_server import FakeServer
from tests.judges.test_labelling import run, section
from tests.judges.worlds import asked, constitution, many, pair, prompt

PRICE = PriceSection(prompt_per_million=1000, completion_per_million=2000)
RULES = constitution("id: p", "id: q", "id: r")


def cost(used: Usage) -> float:
    return PRICE.cost(used.prompt_tokens, used.completion_tokens)


def budget(limits: Limits, spent: Usage | None = None) -> tuple[JudgingBudget, Ledger]:
    ledger = Ledger(limits, cost, spent or Usage())
    return JudgingBudget(ledger, lambda question: most_usage(question, CallShape(template_bytes=500))), ledger


def test_a_request_is_refused_while_its_bound_is_not_within_the_limit() -> None:
    ledger = Ledger(Limits(tokens=250), cost)
    ledger.reserve("x", Usage(1, 99, 1))
    ledger.reserve("y", Usage(1, 99, 1))
    with pytest.raises(SpendingError, match=r"200 of budget\.tokens = 250 is spent, and the next request may take 100"):
        ledger.reserve("z", Usage(1, 99, 1))
    ledger.settle("x", 20, 1)
    ledger.reserve("z", Usage(1, 99, 1))
    assert ledger.total == Usage(3, 20 + 99 + 99, 3) and ledger.spent == Usage(1, 20, 1)


def test_money_is_the_price_of_all_tokens() -> None:
    ledger = Ledger(Limits(money=1.0), cost)
    ledger.reserve("x", Usage(1, 900, 10))  # 0.90 + 0.02
    with pytest.raises(SpendingError, match=r"budget\.money = 1 "):
        ledger.reserve("y", Usage(1, 80, 1))
    ledger.reserve("y", Usage(1, 76, 2))


def test_what_an_answer_used_is_its_bound_where_nobody_counted() -> None:
    ledger = Ledger(Limits(tokens=1000), cost)
    ledger.reserve("x", Usage(1, 99, 1))
    ledger.settle("x", 0, 0)
    assert ledger.spent == Usage(1, 99, 1)


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_answers_exceeds_a_limit(seed: int) -> None:
    """128 in flight, random bounds, random use within the bound, settled in random order."""
    chance, limits = random.Random(seed), Limits(money=40.0, tokens=30_000, requests=300)
    ledger, flying, truth = Ledger(limits, cost), [], Usage()
    for number in range(3000):
        if len(flying) < 128:
            most = Usage(1, chance.randint(1, 400), chance.randint(1, 20))
            try:
                ledger.reserve(str(number), most)
            except SpendingError:
                pass
            else:
                flying.append((str(number), most))
        if flying and chance.random() < 0.6:
            key, most = flying.pop(chance.randrange(len(flying)))
            used = Usage(1, chance.randint(1, most.prompt_tokens), chance.randint(0, most.completion_tokens))
            ledger.settle(key, used.prompt_tokens, used.completion_tokens)
            truth = truth.plus(used)
        assert broken_limit(ledger.total, limits, cost) is None
    assert ledger.spent == truth and truth.requests <= 300 and truth.tokens <= 30_000 and cost(truth) <= 40.0


def test_bytes_and_the_template_bound_the_tokens_of_a_question() -> None:
    rules = constitution("id: p, text: Ä")
    prompts = {"p": prompt("p", "Frage?")}
    judge: Any = type("J", (), {"protocol": "pairwise", "abstains": lambda *_: False, "key": lambda *_: str(id(_))})()
    question = next(iter(asked(judge, rules, prompts, [pair("Gut.", "Schlecht.")]).questions.values()))
    most = most_usage(question, CallShape(requests=2, text_tokens=50, template_bytes=10))
    said = len("Ä".encode()) + len("User: Frage?") + len("Gut.") + len("Schlecht.")
    assert most.requests == 2 and most.completion_tokens == 100
    assert most.prompt_tokens >= 2 * (said + 10 + 50)


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore.in_folder(tmp_path)


def test_128_in_flight_never_exceed_a_limit_on_requests_and_lose_no_answer(store: VerdictStore) -> None:
    limited, ledger = budget(Limits(requests=200))
    with FakeServer(latency_s=0.02) as server:
        settings = section(concurrency=128)
        with pytest.raises(SpendingError, match=r"budget\.requests = 200"):
            run(server, store, rules=RULES, world=many(100), settings=settings, budget=limited)
        assert server.requests == 200 == store.count() == ledger.spent.requests
        more, _ = budget(Limits(requests=600), ledger.spent)
        _, found = run(server, store, rules=RULES, world=many(100), settings=settings, budget=more)
        assert server.requests == 600 == store.count() and found.statistics.reused == 200


def test_128_in_flight_never_exceed_a_limit_on_tokens_and_use_it_up(store: VerdictStore) -> None:
    """The server counts 101 tokens a call; the bound is about 750, and yet hardly more than one bound stays unused."""
    limited, ledger = budget(Limits(tokens=20_200))
    with FakeServer(latency_s=0.02) as server:
        with pytest.raises(SpendingError, match=r"budget\.tokens = 20,200"):
            run(server, store, rules=RULES, world=many(100), settings=section(concurrency=128), budget=limited)
        assert server.requests * 101 == ledger.spent.tokens <= 20_200
        assert store.count() == server.requests and ledger.spent.tokens > 20_200 - 1000


def test_a_failed_call_costs_its_bound(store: VerdictStore) -> None:
    limited, ledger = budget(Limits(requests=1000))
    with FakeServer() as server:
        server.faults = ["wrong-shape"]
        run(server, store, world=many(1), settings=section(failure_budget=1.0), budget=limited)
    assert ledger.spent.prompt_tokens > 100 * server.answered
    assert ledger.total == ledger.spent


def test_an_answer_is_settled_by_its_verdict() -> None:
    limited, ledger = budget(Limits())
    rules, (prompts, pairs) = constitution("id: p"), many(1)
    judge: Any = type("J", (), {"protocol": "pointwise", "abstains": lambda *_: False, "key": lambda *_: str(id(_))})()
    question = next(iter(asked(judge, rules, prompts, pairs).questions.values()))
    limited.reserve(question)
    answered: Verdict = question.verdict("j", logit=0.0).model_copy(update={"prompt_tokens": 7, "completion_tokens": 1})
    limited.settle(answered)
    assert ledger.spent == Usage(1, 7, 1) and ledger.total == ledger.spent
