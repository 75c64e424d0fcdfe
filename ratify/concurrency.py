"""How many requests one server should have in flight: a ceiling, lowered while the server shows that it has too many.

Three signs lower the limit. A refusal (429, 503) or a timeout halves it, once for all requests that were sent before
the last cut (additive increase, multiplicative decrease: Chiu and Jain 1989). A latency above twice the usual one for
two windows lowers it, as in Netflix's concurrency-limits; but a slower server may also have harder questions, so the
cut is a trial that is taken back when fewer requests in flight finish fewer requests per second. And a queue that the
server itself reports is cut away. Everything else raises the limit by its square root per window, up to the ceiling.

It begins at the ceiling, so a server that keeps up costs nothing. Pure: the clock is an argument. Left out: which
request goes where (`endpoints.py`), and pauses (`pauses.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

MIN_WINDOW = 16
"""Fewest answers that a latency is measured over."""
SLOW = 2.0
"""Latency above this many times the usual one is a sign of too many requests; a window's mean of heavy-tailed latencies
stays below it."""
SLOW_WINDOWS = 2
"""The first slow window may lie half before the change."""
CUT = 0.6
"""Share of the limit that a trial keeps: so little that its throughput tells a queue (the same) from harder questions
(less in proportion)."""
KEPT_THROUGHPUT = 0.8
"""A trial that finishes less than this share of requests per second is taken back."""
FALLING, RISING = 0.1, 0.02
"""Weight of a window in the usual latency; a queue that builds up must not become the usual thing at once."""
SPACING = 0.25
"""Time between two requests, as a share of what it is when they are spread evenly over a latency."""
SPARE_SHARE = 0.125
"""Requests that may wait inside the server, as a share of those it computes, so that it never runs dry."""


class _Window(NamedTuple):
    """What one window showed."""

    limit: float
    latency_s: float
    per_s: float


class ConcurrencyLimit:
    """The limit of one server; tell it what happens, and read `limit`."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self._limit = float(ceiling)
        self._usual_s: float | None = None
        self._slow = 0
        self._trial: _Window | None = None
        self._cut_at = -math.inf
        self._opened: float | None = None
        self._count = self._most = 0
        self._sum_s = 0.0
        self._least_s = math.inf
        self.spacing_s = 0.0
        """Least time from one request to the next. What is sent together is answered together, and then each answer
        waits while others are read; spread out, none does. It follows the last window's shortest latency, so it bounds
        the throughput only where latencies fall to less than a quarter of that, and then for one window."""

    @property
    def limit(self) -> int:
        """Requests that may be in flight now, at least 1."""
        return int(self._limit)

    def succeeded(self, latency_s: float, in_flight: int, now: float) -> None:
        """An answer came after `latency_s` seconds, with `in_flight` requests in flight, at clock time `now`."""
        if self._opened is None:
            self._opened = now - latency_s
        self._count += 1
        self._sum_s += latency_s
        self._least_s = min(self._least_s, latency_s)
        self._most = max(self._most, in_flight)
        if self._count >= max(MIN_WINDOW, 2 * self._limit):
            self._close(now)

    def congested(self, sent_at: float, now: float) -> None:
        """A request sent at `sent_at` was refused or timed out; what was sent before the last cut says nothing new."""
        if sent_at < self._cut_at:
            return
        self._cut_at = now
        self._set(self._limit / 2)
        self._trial = None
        self._begin(now)

    def queued(self, running: int, waiting: int) -> None:
        """The server says that it computes `running` requests and lets `waiting` wait; at most half is cut at once."""
        excess = waiting - max(2.0, running * SPARE_SHARE)
        if excess > 0:
            self._set(max(self._limit / 2, self._limit - excess))

    def _begin(self, now: float) -> None:
        self._opened = now
        self._count = self._most = 0
        self._sum_s = 0.0
        self._least_s = math.inf

    def _close(self, now: float) -> None:
        assert self._opened is not None
        seen = _Window(self._limit, self._sum_s / self._count, self._count / max(now - self._opened, 1e-9))
        used = self._most >= 0.9 * self.limit
        self.spacing_s = SPACING * self._least_s / self._limit if used else 0.0
        self._judge(seen, used)
        self._begin(now)

    def _judge(self, seen: _Window, used: bool) -> None:
        """Lower, take back, or raise the limit by what a window showed."""
        usual_s = seen.latency_s if self._usual_s is None else self._usual_s
        trial, self._trial = self._trial, None
        if trial and seen.per_s < KEPT_THROUGHPUT * trial.per_s:
            self._set(trial.limit)
            self._usual_s, self._slow = trial.latency_s, 0
            return
        self._slow = self._slow + 1 if seen.latency_s > SLOW * usual_s else 0
        if self._slow >= SLOW_WINDOWS and used and seen.limit > 1:
            self._trial = seen
            self._set(seen.limit * CUT)
        elif not self._slow:
            weight = FALLING if seen.latency_s < usual_s else RISING
            self._usual_s = usual_s + weight * (seen.latency_s - usual_s)
            if used:
                self._set(seen.limit + math.sqrt(seen.limit))

    def _set(self, limit: float) -> None:
        self._limit = min(float(self.ceiling), max(1.0, limit))
