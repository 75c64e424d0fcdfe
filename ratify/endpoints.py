"""The servers that answer for one model: which one takes the next request, and when none should.

A request goes to the server with the most room. Where there are several, questions that begin alike go to the same
one, which has computed that beginning already, unless it carries half more than its share (consistent hashing
with bounded loads: Mirrokni, Thorup and Zadimoghaddam 2016, arXiv 1608.01350). A server that fails time after time is
rested, for longer each time, while others are well; one request then finds out whether it is back. A server that asks
for a pause gets it as a whole. Left out: the exchange itself (`wire.py`) and retries (`client.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from ratify.concurrency import ConcurrencyLimit
from ratify.errors import EndpointError
from ratify.pauses import full_jitter_s
from ratify.wire import Sign

ILL_AFTER = 5
"""Faults in a row after which a server is rested."""
REST_BASE_S = 0.5
LONGEST_REST_S = 60.0
SPACING_SLACK_S = 0.008
"""Requests that are late for their turn may follow each other at once, so that coarse timers cost no throughput."""
OVERLOAD = 1.5
"""A server may carry this many times its share before a request goes elsewhere than where it began."""


class Load(NamedTuple):
    """One server as a display shows it."""

    url: str
    in_flight: int
    limit: int
    answered: int
    faults: int
    resting_s: float
    """Seconds until it is asked again; 0 when it is well."""


class Endpoint:
    """One server: its load, its limit and its health."""

    def __init__(self, url: str, ceiling: int) -> None:
        self.url = url
        self.concurrency = ConcurrencyLimit(ceiling)
        self.in_flight = 0
        self.answered = 0
        self.faults = 0
        self.quiet_until = 0.0
        """It asked for a pause until then."""
        self.spaced_until = 0.0
        """The next request is sent no earlier, so that requests do not travel in a bunch."""
        self.rest_until = 0.0
        self.probing = False
        self._faults_in_row = 0
        self._rests = 0
        self._refusals_in_row = 0

    @property
    def ill(self) -> bool:
        """It has failed time after time and not answered since."""
        return self._faults_in_row >= ILL_AFTER

    @property
    def load(self) -> float:
        """Requests in flight as a share of its limit."""
        return self.in_flight / self.concurrency.limit

    def may_be_asked(self, now: float) -> bool:
        """It is well, or its rest is over and nobody is finding out yet."""
        return not self.ill or (now >= self.rest_until and not self.probing)

    def has_room(self, now: float) -> bool:
        """It takes one request more, and asked for no pause."""
        return self.in_flight < self.concurrency.limit and now >= self.quiet_until

    def sends(self, now: float) -> None:
        """One request more is on its way."""
        self.in_flight += 1
        self.spaced_until = max(self.spaced_until, now - SPACING_SLACK_S) + self.concurrency.spacing_s

    def declare_ill(self, now: float) -> None:
        """Nobody answers there."""
        self._faults_in_row = ILL_AFTER
        self._rest(now)

    def pause(self, until: float) -> None:
        """Send nothing before `until`."""
        self.quiet_until = max(self.quiet_until, until)

    def settle(self, sign: Sign, sent_at: float, now: float, pause_s: float | None) -> None:
        """Learn from one finished exchange; `pause_s` is what the server asked for."""
        self.in_flight -= 1
        if sign is Sign.WELL:
            self.answered += 1
            self._faults_in_row = self._rests = self._refusals_in_row = 0
            self.concurrency.succeeded(now - sent_at, self.in_flight + 1, now)
        elif sign is not Sign.SILENT:
            self.faults += 1
            self._learn_fault(sign, sent_at, now)
        if sign is Sign.BUSY and pause_s is None:
            pause_s = full_jitter_s(self._refusals_in_row, random.random())
            self._refusals_in_row += now >= self.quiet_until
        if pause_s:
            self.pause(now + pause_s)

    def _learn_fault(self, sign: Sign, sent_at: float, now: float) -> None:
        if sign in (Sign.BUSY, Sign.SLOW):
            self.concurrency.congested(sent_at, now)
        if sign is not Sign.BUSY:
            self._faults_in_row += 1
            if self.ill and now >= self.rest_until:
                self._rest(now)

    def _rest(self, now: float) -> None:
        longest = min(LONGEST_REST_S, REST_BASE_S * 2.0**self._rests)
        self.rest_until = now + longest * (0.5 + 0.5 * random.random())
        self._rests = min(self._rests + 1, 30)


class Lease(NamedTuple):
    """Leave to send one request; give it back with `EndpointPool.settle`."""

    endpoint: Endpoint
    probe: bool
    sent_at: float


class EndpointPool:
    """Hands out leave to send, first come, first served."""

    def __init__(self, urls: Sequence[str], ceiling: int, longest_pause_s: float) -> None:
        """At most `ceiling` requests in flight at each server; a server that asks for more than `longest_pause_s` is an
        error when there is no other."""
        self.endpoints = [Endpoint(url, ceiling) for url in urls]
        self._ceiling = ceiling
        self._longest_pause_s = longest_pause_s
        self._waiting: deque[tuple[asyncio.Future[Lease], str, Endpoint | None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def lease(self, begins: str, last: Endpoint | None = None) -> Lease:
        """Wait for leave to send a request that begins with the text `begins`, rather not to `last`, which failed it.

        Raises:
            EndpointError: every server asks for a pause longer than a request may take.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            granted = self._grant(loop.time(), begins, last)
            if granted:
                return granted
        waiter: asyncio.Future[Lease] = loop.create_future()
        self._waiting.append((waiter, begins, last))
        self._wake()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.settle(waiter.result(), Sign.SILENT)
            raise

    def settle(self, lease: Lease, sign: Sign, pause_s: float | None = None) -> None:
        """Give a lease back with what the exchange showed, and let the next ones go."""
        endpoint = lease.endpoint
        if lease.probe:
            endpoint.probing = False
        endpoint.settle(sign, lease.sent_at, asyncio.get_running_loop().time(), pause_s)
        if self._waiting:
            self._wake()

    def another(self, endpoint: Endpoint) -> bool:
        """Is there another server that can be asked now?"""
        now = asyncio.get_running_loop().time()
        return any(e is not endpoint and e.may_be_asked(now) and now >= e.quiet_until for e in self.endpoints)

    def loads(self) -> list[Load]:
        """The servers as they are now."""
        now = asyncio.get_running_loop().time()
        return [
            Load(e.url, e.in_flight, e.concurrency.limit, e.answered, e.faults,
                 max(0.0, e.quiet_until - now, e.rest_until - now if e.ill else 0.0))
            for e in self.endpoints
        ]  # fmt: skip

    def _grant(self, now: float, begins: str, last: Endpoint | None) -> Lease | None:
        chosen = self._choose(now, begins, last)
        if chosen is None or now < chosen.spaced_until:
            return None
        probe = chosen.ill and chosen.may_be_asked(now)
        chosen.probing = chosen.probing or probe
        chosen.sends(now)
        return Lease(chosen, probe, now)

    def _choose(self, now: float, begins: str, last: Endpoint | None) -> Endpoint | None:
        """The server that takes the next request. When none is well, resting helps nobody: each is asked as if it
        were, and the requests' own pauses spare it."""
        if len(self.endpoints) == 1:
            return self.endpoints[0] if self.endpoints[0].has_room(now) else None
        askable = [each for each in self.endpoints if each.may_be_asked(now)] or self.endpoints
        free = [each for each in askable if each.has_room(now)]
        free = [each for each in free if each is not last] or free
        if not free:
            return None
        resting = next((each for each in free if each.ill), None)
        if resting:
            return resting
        carried = sum(each.in_flight for each in askable) + 1
        room = sum(each.concurrency.limit for each in askable)
        bound = OVERLOAD * carried / room
        homes = sorted(free, key=lambda each: _affinity(begins, each.url), reverse=True)
        return next((each for each in homes if each.load <= bound), None) or min(free, key=lambda each: each.load)

    def _wake(self) -> None:
        """Grant what can be granted, in order, and set the alarm for the next pause that ends."""
        now = asyncio.get_running_loop().time()
        while self._waiting:
            waiter, begins, last = self._waiting[0]
            if waiter.done():
                self._waiting.popleft()
                continue
            granted = self._grant(now, begins, last)
            if granted is None:
                self._set_alarm(now)
                return
            self._waiting.popleft()
            waiter.set_result(granted)

    def _set_alarm(self, now: float) -> None:
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        pauses = [each.quiet_until - now for each in self.endpoints]
        if min(pauses) > self._longest_pause_s:
            self._give_up(min(pauses))
            return
        ends = [
            t
            for each in self.endpoints
            for t in (each.quiet_until, each.spaced_until, each.rest_until if each.ill else 0)
            if t > now
        ]
        if ends:
            self._alarm = asyncio.get_running_loop().call_at(min(ends), self._wake)

    def _give_up(self, pause_s: float) -> None:
        urls = ", ".join(each.url for each in self.endpoints)
        for waiter, _, _ in self._waiting:
            if not waiter.done():
                waiter.set_exception(
                    EndpointError(
                        f"{urls} asks to wait {pause_s:,.0f} s before the next request, longer than total_timeout_s "
                        f"({self._longest_pause_s:,.0f} s); what was answered is kept: run the same command later"
                    )
                )
        self._waiting.clear()


def _affinity(begins: str, url: str) -> int:
    """The weight of a server for a beginning: rendezvous hashing, so that a server that leaves moves only its own."""
    return int.from_bytes(hashlib.blake2b(f"{url}\n{begins}".encode("utf-8", "replace"), digest_size=8).digest())
