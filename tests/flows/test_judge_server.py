"""A judge's server is probed before the first question: refused with what it can do, or its abilities are logged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.judges.fake_server import FakeServer, by_hash


def test_a_server_without_log_probabilities_is_refused_before_the_first_question(
    small_run: list[str], ratify: Callable[..., Any], tmp_path: Path
) -> None:
    assert ratify("generate", *small_run, "--no-prefect").code == 0
    with FakeServer(lambda _text: None) as server:
        judge = ["judge.kind=model", f"judge.base_url={server.url}", "judge.model=fake", "judge.max_same_position=1"]
        refused = ratify("label", *small_run, *judge, "--no-prefect")
        assert refused.code == 5 and refused.err.count("\n") == 1
        assert "cannot do judge.readout = 'logprobs' for 'fake'" in refused.err and "'samples'" in refused.err
        assert server.requests == 0 < server.probes < 12
        server.answer = by_hash
        assert ratify("label", *small_run, *judge, "--no-prefect").code == 0
    (log,) = tmp_path.rglob("judge.log")
    assert log.read_text(encoding="utf-8") == f"{server.url} fake: top_logprobs 3\n"
