"""Judging while sampling: the judge is asked early, nothing twice, and the labels are those of one stage after the
other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratify.lineage import ROOT
from ratify.verdict_store import VerdictStore
from tests.judges.fake_server import FakeServer, by_hash

RUN = Callable[..., Any]


def arguments_of(server: FakeServer, small_run: list[str], *more: str) -> list[str]:
    plain = [argument for argument in small_run if argument != "judge.kind=rules"]
    return [*plain, f"judge.base_url={server.url}", "judge.model=fake", "judge.concurrency=8", *more, "--no-prefect"]


def tables(run: Path) -> dict[str, bytes]:
    return {name: (run / "round-000" / "label" / name).read_bytes() for name in ("labels.parquet", "pairs.parquet")}


def metrics(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "round-000" / stage / "manifest.json").read_text())["metrics"]
    return found


@pytest.mark.parametrize("protocol", ["pointwise", "pairwise", "ranking"])
def test_labels_are_those_of_one_stage_after_the_other(
    protocol: str, ratify: RUN, small_run: list[str], tmp_path: Path
) -> None:
    """The judge sees its first question while most shards are still to come."""
    shards: list[int] = []

    def watching(text: str) -> dict[str, float]:
        if not shards and "Reply" in text:
            shards.append(len(list((tmp_path / "small/round-000/generate/train").glob("completions-*.jsonl"))))
        return by_hash(text)

    settings = ["policy.concurrency=1", f"judge.protocol={protocol}", "judge.max_same_position=1"]
    with FakeServer(watching) as server:
        ahead = arguments_of(server, small_run, *settings, "run.overlap=true", "prompts.train_limit=24")
        said = ratify("generate", *ahead)
        assert said.code == 0 and "judge calls meanwhile" in said.out
        asked = server.judged
        assert 0 < shards[0] < 6
        labelled = ratify("label", *ahead)
        assert labelled.code == 0 and server.judged == asked and len(set(server.texts)) == asked
        run = tmp_path / "small"
        assert metrics(run, "generate")["generate.ahead/calls/count"] == asked
        figures = metrics(run, "label")
        assert figures["label/verdicts/reused"] == asked and figures["label/calls/count"] == 0
        after = [*ahead[:-1], "run.overlap=false", "run.name=after", "--no-prefect"]
        assert ratify("generate", *after).code == 0 and server.judged == asked
        assert ratify("label", *after).code == 0 and server.judged == 2 * asked
    assert "generate.ahead/calls/count" not in metrics(tmp_path / "after", "generate")
    assert tables(run) == tables(tmp_path / "after")


@pytest.mark.slow
def test_a_kill_loses_no_verdict_and_pays_only_for_what_was_in_flight(
    ratify: RUN, small_run: list[str], tmp_path: Path
) -> None:
    with FakeServer(latency_s=0.01) as server:
        arguments = arguments_of(server, small_run, "run.overlap=true", "policy.concurrency=1")
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "generate", *arguments], cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while server.judged < 60 and time.monotonic() < deadline and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        _, errors = child.communicate()
        assert server.judged >= 60, errors.decode()
        assert not (tmp_path / "small/round-000/generate/manifest.json").exists()
        store = VerdictStore.in_folder(tmp_path / "small")
        kept = store.count()
        store.close()
        assert server.judged - kept <= 8 < kept
        assert ratify("generate", *arguments).code == 0 and ratify("label", *arguments).code == 0
        assert len(server.texts) - len(set(server.texts)) <= 8
        arguments = arguments_of(server, small_run, "run.name=unbroken")
        assert ratify("generate", *arguments).code == 0 and ratify("label", *arguments).code == 0
    assert tables(tmp_path / "small") == tables(tmp_path / "unbroken")


def test_a_judge_that_fails_stops_the_head_start_and_not_the_sampling(
    ratify: RUN, small_run: list[str], tmp_path: Path
) -> None:
    with FakeServer(lambda text: by_hash(text) if "Reply" not in text else {"Well": -0.01}) as server:
        arguments = arguments_of(server, small_run, "run.overlap=true")
        said = ratify("generate", *arguments)
        assert said.code == 0 and "judging ahead has stopped" in said.out and "low_coverage" in said.out
        assert (tmp_path / "small/round-000/generate/manifest.json").exists()
        said = ratify("label", *arguments)
        assert said.code == 7 and "judging stopped" in said.err and "low_coverage" in said.err


def test_a_budget_holds_for_the_head_start(ratify: RUN, small_run: list[str]) -> None:
    with FakeServer() as server:
        arguments = arguments_of(server, small_run, "run.overlap=true", "budget.requests=30")
        assert ratify("generate", *arguments).code == 0 and server.judged == 30
        said = ratify("label", *arguments)
        assert said.code == 9 and server.judged == 30


def test_a_judge_that_asks_nobody_is_not_asked_ahead(ratify: RUN, small_run: list[str], tmp_path: Path) -> None:
    assert ratify("generate", *small_run, "run.overlap=true", "--no-prefect").code == 0
    assert "generate.ahead/calls/count" not in metrics(tmp_path / "small", "generate")
