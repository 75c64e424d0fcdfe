"""Several servers of one model: who gets the next request, and what becomes of one that fails or asks for a pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ratify.client import CallFailed, ChatAnswer, ChatClient
from ratify.endpoints import ILL_AFTER, SPACING_SLACK_S, EndpointPool
from ratify.errors import EndpointError
from ratify.sections import EndpointSection
from ratify.server_queue import read_queue
from ratify.types import Message
from ratify.wire import Sign
from tests.judges.fake_server import FakeServer
from tests.ratify.test_client import free_port


@pytest.fixture
def three() -> Iterator[list[FakeServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer()) for _ in range(3)]


def section(*servers: FakeServer | str, **changes: Any) -> EndpointSection:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return EndpointSection.model_validate(
        {"model": "fake", "base_url": urls, "timeout_s": 5.0, "max_retries": 4, "concurrency": 12} | changes
    )


def converse(settings: EndpointSection, texts: list[str], *, checked: bool = False) -> list[ChatAnswer]:
    """Ask everything, `concurrency` at a time."""

    async def run() -> list[ChatAnswer]:
        answers: dict[str, ChatAnswer] = {}
        left = iter(texts)
        assert settings.base_url
        async with ChatClient(settings, settings.base_url, "fake") as client:
            if checked:
                await client.check()

            async def work() -> None:
                for text in left:
                    messages = [Message(role="user", content=text)]
                    answers[text] = await client.chat(messages, max_tokens=1, temperature=0, top_logprobs=5)

            await asyncio.gather(*(work() for _ in range(settings.concurrency)))
        return [answers[text] for text in texts]

    return asyncio.run(run())


def texts(count: int) -> list[str]:
    return [f"{number} is the question" for number in range(count)]


def in_loop(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(body())


def test_a_list_of_servers_is_the_first_and_its_replicas() -> None:
    made = section("http://a/v1", "http://b/v1")
    assert made.base_url == "http://a/v1" and made.replicas == ("http://b/v1",)
    assert EndpointSection.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    "urls", [[], ["http://a/v1", "http://a/v1"], ["http://a/v1", "http://b/v1?key=x"], ["http://a/v1", "ftp://b"]]
)
def test_servers_that_cannot_work_are_refused(urls: list[str]) -> None:
    with pytest.raises(ValueError, match="empty list|same server twice|must not carry|not an http"):
        EndpointSection.model_validate({"model": "m", "base_url": urls})


def test_requests_are_spread_by_load(three: list[FakeServer]) -> None:
    for server in three:
        server.latency_s = 0.02
    three[0].latency_s = 0.1
    converse(section(*three), texts(150))
    asked = [server.requests for server in three]
    assert sum(asked) == 150 and min(asked) > 10
    assert asked[0] < min(asked[1:])
    assert max(server.most_in_flight for server in three) <= 1.5 * (12 / 3) + 1


def test_questions_about_the_same_replies_go_to_the_same_server(three: list[FakeServer]) -> None:
    for server in three:
        server.latency_s = 0.01
    conversations = [f"Conversation {number}. " * 60 for number in range(30)]
    converse(
        section(*three, concurrency=48), [f"{talk}Rule {rule * 'x'}" for talk in conversations for rule in range(8)]
    )
    homes = [sum(any(text.startswith(talk) for text in server.texts) for server in three) for talk in conversations]
    assert sum(server.requests for server in three) == 240
    assert sum(homes) <= 1.7 * len(conversations)  # spread at random each would meet all three
    assert min(server.requests for server in three) > 40


def test_a_server_that_dies_loses_its_requests_to_the_others(three: list[FakeServer]) -> None:
    down = f"http://127.0.0.1:{free_port()}/v1"
    answers = converse(section(down, *three[:2]), texts(120))
    assert len(answers) == 120 and all(answer.first_token for answer in answers)
    assert sum(answer.attempts for answer in answers) <= 120 + ILL_AFTER + 12
    assert sum(server.requests for server in three[:2]) == 120


def test_an_ill_server_is_probed_with_one_request_and_taken_back(three: list[FakeServer]) -> None:
    three[0].always = "500"
    for server in three:
        server.latency_s = 0.02
    settings = section(*three[:2])

    async def run() -> None:
        async with ChatClient(settings, settings.base_url or "", "fake") as client:

            async def ask(count: int) -> None:
                for number in range(count):
                    await client.chat(
                        [Message(role="user", content=f"{number} of {count}")], max_tokens=1, temperature=0
                    )

            await asyncio.gather(*(ask(20) for _ in range(12)))
            ill = client.loads()[0]
            assert ill.faults >= ILL_AFTER and ill.answered == 0
            assert three[0].requests <= ILL_AFTER + 12 + 3
            three[0].always = None
            await asyncio.sleep(max(0.0, ill.resting_s) + 0.05)
            await asyncio.gather(*(ask(20) for _ in range(12)))
            assert client.loads()[0].answered > 40 and client.loads()[0].resting_s == 0

    asyncio.run(run())


def test_one_server_down_at_the_start_is_a_warning_and_all_down_an_error(
    three: list[FakeServer], caplog: pytest.LogCaptureFixture
) -> None:
    down = f"http://127.0.0.1:{free_port()}/v1"
    assert len(converse(section(three[0], down), texts(20), checked=True)) == 20
    assert f"no server answers at {down}" in caplog.text
    with pytest.raises(EndpointError, match="no server answers at http"):
        converse(section(down), texts(1), checked=True)
    with pytest.raises(EndpointError, match=f"does not serve 'fake'.*|{three[1].url}"):
        three[1].always = "html"
        converse(section(three[0], three[1]), texts(1), checked=True)


def test_replicas_belong_to_the_section_s_own_address_alone(three: list[FakeServer]) -> None:
    """A managed server that takes the place of the address gets every request."""
    settings = section(three[0], three[1])

    async def run() -> None:
        async with ChatClient(settings, three[2].url, "fake") as client:
            for text in texts(10):
                await client.chat([Message(role="user", content=text)], max_tokens=1, temperature=0)

    asyncio.run(run())
    assert [server.requests for server in three] == [0, 0, 10]


def test_a_pause_that_one_request_is_told_holds_for_the_server_as_a_whole() -> None:
    async def body() -> None:
        pool = EndpointPool(["http://a/v1"], 4, 60.0)
        loop = asyncio.get_running_loop()
        first = await pool.lease("")
        pool.settle(first, Sign.BUSY, 0.2)
        started = loop.time()
        await asyncio.gather(*(pool.lease("") for _ in range(2)))
        assert loop.time() - started >= 0.19
        assert pool.loads()[0].limit == 2

    in_loop(body)


def test_requests_that_would_go_out_together_are_spread_in_their_order() -> None:
    async def body() -> None:
        pool = EndpointPool(["http://a/v1"], 12, 60.0)
        pool.endpoints[0].concurrency.spacing_s = 0.02
        sent = [each.sent_at for each in await asyncio.gather(*(pool.lease("") for _ in range(12)))]
        assert sent == sorted(sent) and sent[-1] - sent[0] >= 11 * 0.02 - SPACING_SLACK_S - 0.02

    in_loop(body)


def test_a_pause_longer_than_a_request_may_take_ends_the_run_with_one_sentence() -> None:
    async def body() -> None:
        pool = EndpointPool(["http://a/v1"], 4, 60.0)
        pool.settle(await pool.lease(""), Sign.BUSY, 3600.0)
        with pytest.raises(EndpointError, match=r"asks to wait 3,600 s .* run the same command later"):
            await pool.lease("")

    in_loop(body)


def test_leave_is_granted_in_order_and_a_cancelled_waiter_gives_it_back() -> None:
    async def body() -> None:
        pool = EndpointPool(["http://a/v1"], 1, 60.0)
        held = await pool.lease("")
        order: list[int] = []

        async def wait(number: int) -> None:
            lease = await pool.lease("")
            order.append(number)
            pool.settle(lease, Sign.WELL)

        waiters = [asyncio.create_task(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        waiters[1].cancel()
        pool.settle(held, Sign.WELL)
        waiters[0].cancel()  # granted in the same moment
        await asyncio.gather(*waiters, return_exceptions=True)
        assert order == [2, 3, 4] and pool.loads()[0].in_flight == 0

    in_loop(body)


def test_a_request_is_bounded_in_time_with_all_its_attempts(three: list[FakeServer]) -> None:
    three[0].always = "hang"
    started = time.monotonic()
    with pytest.raises(CallFailed) as caught:
        converse(section(three[0], timeout_s=0.3, total_timeout_s=1.0, max_retries=50, concurrency=1), texts(1))
    assert time.monotonic() - started < 5
    assert 1 <= caught.value.attempts <= 5


def test_attempts_are_counted(three: list[FakeServer]) -> None:
    three[0].faults = ["500", "reset"]
    assert converse(section(three[0], concurrency=1), texts(1))[0].attempts == 3
    three[0].always = "truncated"
    with pytest.raises(CallFailed) as caught:
        converse(section(three[0], concurrency=1), texts(1))
    assert caught.value.attempts == 3  # what was computed is asked for again twice at most


def test_the_queue_of_vllm_is_read_off_its_metrics() -> None:
    page = """# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="m"} 60.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.9e+02
vllm:num_requests_waiting{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 190.0
"""
    assert read_queue(page) == (64, 192)
    assert read_queue("process_cpu_seconds_total 3.0\n") is None
