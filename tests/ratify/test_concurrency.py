"""The concurrency limit against simulated servers: slots with a queue, a rate limit, latencies that mean nothing."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from statistics import fmean

from ratify.concurrency import ConcurrencyLimit


class Simulation:
    """A client that always fills its limit, and a server that computes `slots` requests at once, first come first
    served. Times are in simulated seconds."""

    def __init__(self, ceiling: int, service_s: Callable[[], float], slots: int = 10**9) -> None:
        self.limit = ConcurrencyLimit(ceiling)
        self.service_s = service_s
        self.slots = slots
        self.now = 0.0
        self.answered = 0
        self.seen: list[int] = []
        self._waiting: deque[float] = deque()
        self._running: list[tuple[float, float]] = []

    def run(self, answers: int) -> float:
        """Answers per second over the next `answers`."""
        started, before = self.now, self.answered
        while self.answered < before + answers:
            while len(self._waiting) + len(self._running) < self.limit.limit:
                self._waiting.append(self.now)
            self._compute()
            in_flight = len(self._waiting) + len(self._running)
            self.now, sent_at = heapq.heappop(self._running)
            self.answered += 1
            self.limit.succeeded(self.now - sent_at, in_flight, self.now)
            self.seen.append(self.limit.limit)
        return answers / (self.now - started)

    def _compute(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            heapq.heappush(self._running, (self.now + self.service_s(), self._waiting.popleft()))


def test_a_fixed_latency_is_asked_at_the_ceiling_from_the_first_request_to_the_last() -> None:
    world = Simulation(64, lambda: 0.2)
    world.run(5000)
    assert set(world.seen) == {64}


def test_a_heavy_tail_costs_no_throughput() -> None:
    """Log-normal latencies of mean 2 s, σ = 1; at 64 in flight 32 answers per second are ideal."""
    for seed in range(20):
        draw = random.Random(seed)
        world = Simulation(64, lambda draw=draw: draw.lognormvariate(0.193, 1.0))
        world.run(5000)
        assert fmean(world.seen) >= 0.97 * 64


def test_a_server_that_lost_its_slots_gets_fewer_requests_and_loses_no_throughput() -> None:
    """Eight slots of 0.2 s answer 40 requests per second, whether 64 or 16 are in flight."""
    for seed in range(5):
        draw = random.Random(seed)
        world = Simulation(64, lambda draw=draw: draw.uniform(0.1, 0.3))
        world.run(1000)
        world.slots = 8
        world.run(500)
        assert world.run(2000) >= 0.97 * 8 / 0.2
        assert fmean(world.seen[-2000:]) < 36


def test_a_server_that_recovers_is_asked_at_the_ceiling_again() -> None:
    world = Simulation(64, lambda: 0.2)
    world.run(1000)
    world.slots = 8
    world.run(2000)
    world.slots = 10**9
    world.run(2000)
    assert world.limit.limit == 64


def test_harder_questions_that_take_longer_do_not_lower_the_limit_for_good() -> None:
    """Latency grows fourfold for a reason of its own: fewer in flight would only finish fewer."""
    pace = {"s": 0.2}
    world = Simulation(64, lambda: pace["s"])
    world.run(1000)
    pace["s"] = 0.8
    world.run(4000)
    assert fmean(world.seen[-2000:]) >= 0.97 * 64


def test_a_refusal_halves_the_limit_once_for_all_requests_sent_before() -> None:
    limit = ConcurrencyLimit(64)
    for _ in range(30):
        limit.congested(sent_at=1.0, now=2.0)
    assert limit.limit == 32
    limit.congested(sent_at=2.5, now=3.0)
    assert limit.limit == 16


def test_the_limit_never_falls_below_one_and_climbs_by_its_root() -> None:
    limit = ConcurrencyLimit(16)
    for second in range(20):
        limit.congested(sent_at=second + 0.5, now=second + 1.0)
    assert limit.limit == 1
    for tick in range(16):
        limit.succeeded(0.1, 1, 30.0 + tick / 10)
    assert limit.limit == 2  # 1 + √1
    for tick in range(16):
        limit.succeeded(0.1, 2, 40.0 + tick / 10)
    assert limit.limit == 3  # 2 + √2 = 3.41


def test_an_unused_limit_does_not_climb() -> None:
    limit = ConcurrencyLimit(64)
    limit.congested(sent_at=0.0, now=1.0)
    for tick in range(1000):
        limit.succeeded(0.1, 3, 2.0 + tick)
    assert limit.limit == 32


def test_a_queue_that_the_server_reports_is_cut_away_but_never_the_work_in_progress() -> None:
    limit = ConcurrencyLimit(256)
    limit.queued(running=64, waiting=192)
    assert limit.limit == 128  # at most half at once
    limit.queued(running=64, waiting=64)
    assert limit.limit == 72  # an eighth of what runs may wait
    limit.queued(running=64, waiting=8)
    assert limit.limit == 72


def test_requests_are_spaced_by_a_quarter_of_an_even_spread_over_the_shortest_latency() -> None:
    limit = ConcurrencyLimit(16)
    for tick in range(32):
        assert limit.spacing_s == 0.0  # nothing is known yet
        limit.succeeded(0.8 if tick else 0.2, 16, 1.0 + tick / 80)
    assert limit.spacing_s == 0.25 * 0.2 / 16
    for tick in range(32):
        limit.succeeded(0.8, 3, 2.0 + tick)
    assert limit.spacing_s == 0.0  # so few never meet


def test_under_a_rate_limit_most_requests_are_answered() -> None:
    """Twenty requests a second are allowed and each takes 0.2 s, so 4 in flight are right; the ceiling is 64."""
    limit, now, allowance, refused, answered = ConcurrencyLimit(64), 0.0, 20.0, 0, 0
    while now < 120.0:
        sent_at, burst = now, limit.limit
        now += 0.2
        allowance = min(20.0, allowance + 4.0)
        served = min(burst, int(allowance))
        allowance -= served
        for _ in range(served):
            limit.succeeded(0.2, burst, now)
        for _ in range(burst - served):
            limit.congested(sent_at, now)
        answered, refused = answered + served, refused + burst - served
    assert answered >= 0.9 * 20 * 120 and refused < 0.25 * answered
