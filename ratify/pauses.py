"""How long to wait: full-jitter retries, what a server asks for, and what its rate-limit headers leave.

Pure functions of numbers and headers. Left out: who waits (`endpoints.py` for a server as a whole, `client.py` for one
request).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BASE_S = 0.5
CAP_S = 30.0
"""Longest pause that we choose ourselves."""
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WINDOWS = ("requests", "tokens")


def full_jitter_s(attempt: int, draw: float) -> float:
    """Seconds to wait before attempt `attempt` + 2: uniform between 0 and min(cap, base·2^attempt).

    `draw` is uniform in [0, 1). The "full jitter" of Brooker, *Exponential Backoff and Jitter* (AWS Architecture
    Blog, 2015), which spreads clients that failed together better than a small jitter on a fixed pause.
    """
    return float(draw * min(CAP_S, BASE_S * 2.0 ** min(attempt, 30)))


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date (RFC 9110
    §10.2.3); None where it asks for nothing that can be read."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000.0
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


def rate_limit_pause_s(headers: Mapping[str, str], in_flight: int) -> float:
    """Seconds to hold back new requests when `x-ratelimit-remaining-requests` or `-tokens` says that nothing is left.

    `x-ratelimit-reset-*` is the time until the whole limit is back. A limit that refills steadily has room for the
    `in_flight` requests again after that share of it, so that share is waited for; where `x-ratelimit-limit-*` is not
    given, all of it.
    """
    pause = 0.0
    for window in _WINDOWS:
        remaining = _number(headers.get(f"x-ratelimit-remaining-{window}"))
        reset = duration_s(headers.get(f"x-ratelimit-reset-{window}"))
        if remaining is None or reset is None or remaining >= 1:
            continue
        limit = _number(headers.get(f"x-ratelimit-limit-{window}"))
        share = min(1.0, in_flight / limit) if limit and window == "requests" else 1.0
        pause = max(pause, reset * share)
    return pause


def duration_s(text: str | None) -> float | None:
    """`1s`, `6m0s`, `20ms` or a plain number of seconds; None for anything else."""
    if not text:
        return None
    plain = _number(text)
    if plain is not None:
        return plain
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _number(text: str | None) -> float | None:
    """A number of at least 0 and below infinity."""
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0.0 <= value < float("inf") else None
