"""Registering on a server that is busy: asked again, and in the end one sentence."""

from __future__ import annotations

import httpx
import pytest

from flows.registration import TRIES, _patient
from ratify.errors import SchedulerError

REQUEST = httpx.Request("POST", "http://127.0.0.1:1/api/automations")


class Server:
    """Fails so often, then answers."""

    def __init__(self, fault: Exception, failures: int) -> None:
        self.fault = fault
        self.failures = failures
        self.asked = 0

    def ask(self) -> str:
        self.asked += 1
        if self.asked <= self.failures:
            raise self.fault
        return "done"


def status(code: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(code, request=REQUEST))


@pytest.mark.parametrize("fault", [httpx.ReadTimeout("timed out"), httpx.ConnectError("refused"), status(503)])
def test_a_busy_server_is_asked_again(fault: Exception) -> None:
    server = Server(fault, TRIES - 1)
    assert _patient(server.ask)() == "done" and server.asked == TRIES


def test_a_server_that_never_answers_is_one_sentence() -> None:
    server = Server(httpx.ReadTimeout("timed out"), 100)
    with pytest.raises(SchedulerError, match=r"did not answer, 3 times \(ReadTimeout\); see server\.log, and run"):
        _patient(server.ask)()
    assert server.asked == TRIES


def test_what_the_server_refuses_is_not_asked_again() -> None:
    server = Server(status(422), 100)
    with pytest.raises(httpx.HTTPStatusError):
        _patient(server.ask)()
    assert server.asked == 1
