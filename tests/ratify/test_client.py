"""The chat client against a server that behaves, misbehaves, or is not there."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ratify.answers import _first_token
from ratify.client import CallFailed, ChatAnswer, ChatClient
from ratify.errors import EndpointError
from ratify.sections import EndpointSection
from ratify.types import Failure, Message
from tests.judges.fake_server import FakeServer

HELLO = (Message(role="user", content="Does the reply follow it? Answer Yes or No."),)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def endpoint(**changes: Any) -> EndpointSection:
    return EndpointSection(**({"model": "fake", "timeout_s": 5.0, "max_retries": 0} | changes))


def ask(url: str, section: EndpointSection | None = None, times: int = 1, **options: Any) -> list[ChatAnswer]:
    async def run() -> list[ChatAnswer]:
        settings = {"max_tokens": 1, "temperature": 0.0, "top_logprobs": 20} | options
        async with ChatClient(section or endpoint(), url, "fake") as client:
            return await asyncio.gather(*(client.chat(HELLO, **settings) for _ in range(times)))

    return asyncio.run(run())


def check(url: str, model: str = "fake") -> None:
    async def run() -> None:
        async with ChatClient(endpoint(), url, model) as client:
            await client.check()

    asyncio.run(run())


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_an_answer_has_text_tokens_and_first_token_log_probabilities(server: FakeServer) -> None:
    (answer,) = ask(server.url)
    assert answer.finish_reason == "length" and (answer.prompt_tokens, answer.completion_tokens) == (100, 1)
    assert answer.first_token is not None and set(answer.first_token) == {"Yes", " No", "Well"}


def test_without_log_probabilities_there_is_no_first_token(server: FakeServer) -> None:
    assert ask(server.url, top_logprobs=0)[0].first_token is None


def test_concurrency_limits_connections(server: FakeServer) -> None:
    server.latency_s = 0.05
    ask(server.url, endpoint(concurrency=4), times=20)
    assert server.requests == 20 and server.most_in_flight == 4


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "half"])
def test_passing_faults_are_retried(server: FakeServer, fault: str) -> None:
    server.faults = [fault]
    assert ask(server.url, endpoint(max_retries=2))[0].text
    assert server.requests == 2


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("429", Failure.TRANSPORT_ERROR),
        ("503", Failure.TRANSPORT_ERROR),
        ("reset", Failure.TRANSPORT_ERROR),
        ("half", Failure.TRANSPORT_ERROR),
        ("html", Failure.PARSE_ERROR),
        ("truncated", Failure.PARSE_ERROR),
        ("latin", Failure.PARSE_ERROR),
        ("wrong-shape", Failure.PARSE_ERROR),
        ("context", Failure.TRUNCATED),
    ],
)
def test_lasting_faults_are_typed_failures(server: FakeServer, fault: str, failure: Failure) -> None:
    server.always = fault
    with pytest.raises(CallFailed) as caught:
        ask(server.url)
    assert caught.value.failure is failure
    assert caught.value.raw


def test_a_hanging_server_times_out(server: FakeServer) -> None:
    server.always = "hang"
    started = time.monotonic()
    with pytest.raises(CallFailed) as caught:
        ask(server.url, endpoint(timeout_s=0.3))
    assert caught.value.failure is Failure.TRANSPORT_ERROR
    assert time.monotonic() - started < 3


def test_a_server_that_does_not_speak_http_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_babble, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(CallFailed):
            ask(url)
        with pytest.raises(EndpointError):
            check(url)


def _babble(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.recv(65536)
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        connection.close()


def test_a_server_that_is_down_is_a_failure_and_check_says_so() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(CallFailed) as caught:
        ask(url)
    assert caught.value.failure is Failure.TRANSPORT_ERROR
    with pytest.raises(EndpointError, match="no server answers at"):
        check(url)


@pytest.mark.parametrize(
    ("status", "remedy"), [("401", "OPENAI_API_KEY"), ("403", "may not use"), ("404", "model name")]
)
def test_refusals_concern_every_call(server: FakeServer, status: str, remedy: str) -> None:
    server.always = status
    with pytest.raises(EndpointError, match=remedy):
        ask(server.url)
    with pytest.raises(EndpointError, match=remedy):
        check(server.url)


@pytest.mark.parametrize("fault", ["html", "truncated", "latin", "wrong-shape"])
def test_check_tells_rubbish_from_a_server(server: FakeServer, fault: str) -> None:
    server.always = fault
    with pytest.raises(EndpointError, match=r"OpenAI-compatible|does not serve"):
        check(server.url)


def test_check_names_the_models_that_are_served(server: FakeServer) -> None:
    check(server.url)
    with pytest.raises(EndpointError, match=r"does not serve 'other'; it serves: fake"):
        check(server.url, "other")


def test_the_key_is_in_no_message(server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("RATIFY_TEST_KEY", "sk-planted-secret")
    section = endpoint(api_key_env="RATIFY_TEST_KEY")
    for fault, kind in (("401", EndpointError), ("500", CallFailed), ("html", CallFailed), ("reset", CallFailed)):
        server.always = fault
        with pytest.raises(kind) as caught:
            ask(server.url, section)
        assert "planted" not in str(caught.value) and "planted" not in repr(caught.value)
    assert "planted" not in caplog.text
    assert os.environ["RATIFY_TEST_KEY"]


def test_extra_fields_reach_the_server_and_a_refusal_is_told(server: FakeServer) -> None:
    (answer,) = ask(server.url, extra_body={"structured_outputs": {"choice": ["Yes", "No"]}}, seed=3)
    assert answer.text in ("Yes", " No")
    sent = server.bodies[-1]
    assert sent["structured_outputs"] == {"choice": ["Yes", "No"]} and sent["seed"] == 3
    server.always = "refusal"
    (answer,) = ask(server.url)
    assert answer.finish_reason == "content_filter" and answer.text == "I will not judge this."


def test_tokens_with_the_same_text_add_their_probabilities() -> None:
    same = [{"token": "Yes", "logprob": math.log(0.25)}, {"token": "Yes", "logprob": math.log(0.5)}]
    found = _first_token({"content": [{"token": "Yes", "logprob": math.log(0.5), "top_logprobs": same}]})
    assert found == {"Yes": pytest.approx(math.log(0.75))}


def test_what_the_server_has_against_a_prompt_is_told_apart(server: FakeServer) -> None:
    server.respond = [
        (400, {"error": {"message": "flagged", "code": "content_policy_violation"}}, {}),
        (413, {"error": {"message": "too large"}}, {}),
    ]
    for failure in (Failure.REFUSED, Failure.TRUNCATED):
        with pytest.raises(CallFailed) as caught:
            ask(server.url, endpoint(max_retries=3))
        assert caught.value.failure is failure and caught.value.attempts == 1


def test_a_request_that_is_called_wrong_stops_everything_only_if_it_is_the_first(server: FakeServer) -> None:
    wrong = (400, {"error": {"message": "roles must alternate"}}, {})
    server.respond = [wrong]
    with pytest.raises(EndpointError, match="roles must alternate"):
        ask(server.url)

    async def run() -> None:
        async with ChatClient(endpoint(), server.url, "fake") as client:
            await client.chat(HELLO, max_tokens=1, temperature=0)
            server.respond = [wrong]
            with pytest.raises(CallFailed, match="roles must alternate"):
                await client.chat(HELLO, max_tokens=1, temperature=0)
            await client.chat(HELLO, max_tokens=1, temperature=0)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "body", "headers", "sentence"),
    [
        (429, {"error": {"code": "insufficient_quota"}}, {}, "has no credit left"),
        (308, {}, {"location": "https://elsewhere.example/v1/chat?token=abc"}, "redirects to https://elsewhere"),
        (429, {}, {"retry-after": "7200"}, "asks to wait 7,200 s"),
    ],
)
def test_faults_that_no_retry_mends_are_one_sentence(
    server: FakeServer, status: int, body: Any, headers: dict[str, str], sentence: str
) -> None:
    server.respond = [(status, body, headers)] * 3
    with pytest.raises(EndpointError, match=sentence) as caught:
        ask(server.url, endpoint(max_retries=3))
    assert "abc" not in str(caught.value)
    assert server.requests == 1


def test_a_rate_limit_that_is_used_up_holds_the_next_request_back(server: FakeServer) -> None:
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}
    server.headers = used_up

    async def run() -> float:
        async with ChatClient(endpoint(), server.url, "fake") as client:
            await client.chat(HELLO, max_tokens=1, temperature=0)
            started = time.monotonic()
            await client.chat(HELLO, max_tokens=1, temperature=0)
            return time.monotonic() - started

    assert asyncio.run(run()) >= 0.28


def test_refusals_of_a_server_at_its_limit_cost_time_and_no_answer(server: FakeServer) -> None:
    """Three requests at once are let through, any more get a 429; twenty workers get every answer."""
    server.room = 3
    server.latency_s = 0.02
    answers = ask(server.url, endpoint(concurrency=20, max_retries=3), times=100)
    assert len(answers) == 100 and server.answered == 100
    assert server.requests < 200


def test_requests_that_wait_inside_vllm_lower_the_limit(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratify.server_queue.EVERY_S", 0.05)
    server.latency_s = 0.3
    server.metrics = 'vllm:num_requests_running{engine="0"} 4.0\nvllm:num_requests_waiting{engine="0"} 12.0\n'

    async def run() -> int:
        async with ChatClient(endpoint(concurrency=16), server.url, "fake") as client:
            await asyncio.gather(*(client.chat(HELLO, max_tokens=1, temperature=0) for _ in range(16)))
            return client.loads()[0].limit

    assert asyncio.run(run()) < 10


def test_an_answer_that_echoes_the_key_is_kept_without_it(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATIFY_TEST_KEY", "sk-planted-secret")
    server.answer = lambda text: {"Bearer sk-planted-secret": -0.1, "No": -3.0}
    (answer,) = ask(server.url, endpoint(api_key_env="RATIFY_TEST_KEY"))
    assert answer.text == "Bearer [redacted]" and "planted" not in str(answer)


def test_a_stand_in_for_a_key_changes_no_answer(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATIFY_TEST_KEY", "e")
    (answer,) = ask(server.url, endpoint(api_key_env="RATIFY_TEST_KEY"))
    assert answer.first_token is not None and set(answer.first_token) == {"Yes", " No", "Well"}
