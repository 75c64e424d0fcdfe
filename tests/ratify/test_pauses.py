"""Pauses: jitter between nothing and the cap, and what servers write into their headers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ratify.pauses import duration_s, full_jitter_s, rate_limit_pause_s, retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def test_full_jitter_is_uniform_below_a_doubling_cap() -> None:
    assert [full_jitter_s(attempt, 1.0) for attempt in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert full_jitter_s(3, 0.25) == 1.0 and full_jitter_s(9, 0.0) == 0.0
    assert full_jitter_s(10**6, 1.0) == 30.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "20", "retry-after": "1"}, 0.02),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_as_seconds_milliseconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3s", 3723.0), ("12", 12.0), ("", None), ("5x", None)],
)
def test_durations_as_openai_writes_them(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds


def limits(window: str, limit: int, remaining: int, reset: str) -> dict[str, str]:
    values = {"limit": str(limit), "remaining": str(remaining), "reset": reset}
    return {f"x-ratelimit-{name}-{window}": value for name, value in values.items()}


def test_a_limit_with_something_left_asks_for_no_pause() -> None:
    assert rate_limit_pause_s(limits("requests", 500, 3, "59s"), 10) == 0.0


def test_an_empty_limit_asks_for_the_share_of_its_refill_that_the_requests_in_flight_need() -> None:
    assert rate_limit_pause_s(limits("requests", 500, 0, "60s"), 50) == pytest.approx(6.0)
    assert rate_limit_pause_s(limits("requests", 5, 0, "60s"), 50) == 60.0
    assert rate_limit_pause_s(limits("tokens", 30_000, 0, "1m2s"), 50) == 62.0


def test_headers_that_cannot_be_read_ask_for_nothing() -> None:
    assert rate_limit_pause_s({"x-ratelimit-remaining-requests": "none", "x-ratelimit-reset-requests": "1s"}, 4) == 0.0
