"""The benchmark of the client runs: every question to spoiling servers ends, also when one of two dies."""

from __future__ import annotations

import asyncio

from bench.endpoints import LATENCY_S, endings, fake, ours
from bench.endpoints import drive as drive_loop


def test_every_question_ends_when_one_of_two_spoiling_servers_dies() -> None:
    chaos = "tests.judges.chaos_server"
    with fake(chaos, "--share", "0.2") as (one, _), fake(chaos, "--seed", "1") as (other, child):
        ended = asyncio.run(endings([one, other], 90, child))
    kinds = ("answered", "answered without log-probabilities", "parse_error", "transport_error")
    assert sum(ended.get(kind, 0) for kind in kinds) == 90 and ended["attempts"] > 90
    assert ended["answered"] >= 70


def test_the_product_s_loop_asks_a_fake_server_at_the_given_width() -> None:
    async def run(url: str) -> dict[str, float]:
        async with ours(url, 16) as ask:
            return await drive_loop(ask, 64, 16)

    with fake("tests.judges.fake_server", "--latency", str(LATENCY_S)) as (url, _):
        figures = asyncio.run(run(url))
    assert 0 < figures["calls_per_s"] <= 16 / LATENCY_S and figures["cpu_ms_per_call"] > 0
