"""Labelling by batch files through the command line: waiting, coming back, kills, and faults of single requests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ratify.batch_files import BatchFolder, RequestWriter
from ratify.lineage import ROOT
from ratify.verdict_store import VerdictStore
from tests.judges.fake_batch_server import FakeBatchServer
from tests.judges.fake_server import FakeServer

SECRET = "sk-planted-77aa31"


@pytest.fixture
def server() -> Iterator[FakeBatchServer]:
    with FakeBatchServer() as fake:
        yield fake


def judged_by(server: FakeServer, *more: str) -> list[str]:
    return ["judge.kind=model", f"judge.base_url={server.url}", "judge.model=fake", "judge.batch=true",
            "judge.batch_poll_s=0.01", "labels.pairs_per_prompt=1", "prompts.train_limit=8", "--no-prefect",
            *more]  # fmt: skip


@pytest.fixture
def label(small_run: list[str], ratify: Callable[..., Any]) -> Callable[..., Any]:
    assert ratify("generate", *small_run, "prompts.train_limit=8", "--no-prefect").code == 0
    return lambda server, *more: ratify("label", *small_run, *judged_by(server, *more))


def probabilities(tmp_path: Path) -> list[float]:
    labels = pd.read_parquet(tmp_path / "small" / "round-000" / "label" / "labels.parquet")
    return [float(value) for value in labels.sort_values(["a_id", "b_id"])["probability"]]


def verdicts(tmp_path: Path) -> int:
    store = VerdictStore.in_folder(tmp_path / "small")
    count = store.count()
    store.close()
    return count


def test_a_running_batch_ends_the_command_with_one_sentence_and_the_same_command_goes_on(
    server: FakeBatchServer, label: Callable[..., Any], tmp_path: Path
) -> None:
    server.looks = 10**6
    for _ in range(3):
        said = label(server)
        assert said.code == 75 and said.err.count("\n") == 1, said
        assert "batch batch_0 is still running" in said.err and "run the same command later" in said.err
    server.end_all()
    assert label(server).code == 0
    assert len(server.created) == 1 and len(server.paid) == len(set(server.paid)) == verdicts(tmp_path)
    assert server.requests <= 8  # the look at what the server can do is live
    assert not list((tmp_path / "small" / "batches").glob("*/*"))


def test_with_wait_it_waits_and_the_labels_are_those_of_live_calls(
    server: FakeBatchServer, label: Callable[..., Any], tmp_path: Path
) -> None:
    server.looks = 3
    assert label(server, "--wait").code == 0
    by_batch = probabilities(tmp_path)
    (tmp_path / "small" / "verdicts.sqlite").unlink()
    for path in (tmp_path / "small" / "round-000" / "label").glob("*"):
        path.unlink()
    assert label(server, "judge.batch=false").code == 0
    assert server.requests >= len(server.paid) == verdicts(tmp_path) and probabilities(tmp_path) == by_batch


def test_faults_of_single_requests_are_typed_and_asked_again_by_the_next_run(
    server: FakeBatchServer, label: Callable[..., Any], tmp_path: Path
) -> None:
    def spoil(number: int, line: dict[str, Any]) -> dict[str, Any] | None:
        spoilt: dict[int, dict[str, Any] | None] = {
            0: None,
            1: line | {"response": None, "error": {"code": "batch_expired", "message": "not run in time"}},
            2: line | {"response": {"status_code": 500, "body": {"error": {"message": "oops"}}}},
            3: line | {"response": {"status_code": 200, "body": {"choices": []}}},
            4: line | {"response": {"status_code": 400, "body": {"error": {"message": "maximum context length"}}}},
        }
        return spoilt.get(number, line)

    server.spoil, server.end = spoil, "expired"
    said = label(server, "--wait")
    assert said.code == 7 and "5 of" in said.err and said.err.count("\n") == 1
    assert "3 transport_error" in said.err and "1 parse_error" in said.err and "1 truncated" in said.err
    before = verdicts(tmp_path)
    assert before == len(server.paid) - 5
    server.spoil, server.end = (lambda _number, line: line), "completed"
    assert label(server, "--wait").code == 0
    assert len(server.paid) == before + 10 and verdicts(tmp_path) == before + 5


def test_a_batch_that_was_created_without_our_knowing_is_found_again(
    server: FakeBatchServer, label: Callable[..., Any], tmp_path: Path
) -> None:
    server.lost_creations = 1
    said = label(server)
    assert said.code == 5 and "run the same command again" in said.err and said.err.count("\n") == 1, said
    assert label(server, "--wait").code == 0
    assert len(server.created) == 1 and len(server.paid) == verdicts(tmp_path)


def test_a_refused_batch_says_why_and_is_sent_anew(
    server: FakeBatchServer, label: Callable[..., Any], tmp_path: Path
) -> None:
    server.refuse = f"Enqueued token limit reached for Bearer {SECRET}"
    said = label(server, "--wait")
    assert (
        said.code == 5 and "token_limit_exceeded: Enqueued token limit reached" in said.err and SECRET not in said.err
    )
    server.refuse = ""
    assert label(server, "--wait").code == 0
    assert len(server.paid) == verdicts(tmp_path)


def test_a_server_without_batches_is_named(label: Callable[..., Any]) -> None:
    with FakeServer() as plain:
        said = label(plain)
    assert said.code == 5 and "did not do its part of a batch" in said.err and said.err.count("\n") == 1


def test_batches_need_a_server_of_ones_own(ratify: Callable[..., Any]) -> None:
    said = ratify("label", "configs/demo.toml", "judge.batch=true", "--dry-run")
    assert said.code == 2


@pytest.mark.slow
def test_kill_9_between_any_two_steps_pays_for_no_request_twice(
    server: FakeBatchServer, small_run: list[str], tmp_path: Path, ratify: Callable[..., Any]
) -> None:
    assert ratify("generate", *small_run, "prompts.train_limit=8", "--no-prefect").code == 0
    server.kill_at = ["uploaded", "created", "listing", "looking", "downloading"]
    server.looks = 2
    overrides = [*small_run[1:], *judged_by(server, "judge.api_key_env=PLANTED_KEY", "judge.batch_wait=true")]
    command = [sys.executable, "-c", STAGE, *(each for each in overrides if each != "--no-prefect")]
    said, codes = b"", []
    while len(codes) < 7 and 0 not in codes:
        child = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PLANTED_KEY": SECRET},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        server.client_pid = child.pid
        said += child.communicate()[0]
        codes.append(child.returncode)
    assert codes == [-signal.SIGKILL] * 5 + [0], said
    assert len(server.created) == 1 and len(server.paid) == len(set(server.paid)) == verdicts(tmp_path)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in written + said


STAGE = """
import sys
from pathlib import Path
from flows.context import RunContext
from flows.stages import FLOWS
from ratify.config import load_config
FLOWS["label_preferences"].run(RunContext(load_config(Path("configs/demo.toml"), sys.argv[1:])))
"""


def test_requests_are_cut_into_batches_by_number_and_by_size(tmp_path: Path) -> None:
    folder = BatchFolder(tmp_path, "http://a/v1", "m")
    with RequestWriter(folder, max_requests=3, max_bytes=1000) as writer:
        for number in range(7):
            writer.add(f"id{number}", {"text": "x"})
        writer.add("long", {"text": "x" * 900})
        writer.add("last", {"text": "x"})
    assert sorted(batch.requests for batch in writer.batches) == [1, 1, 1, 3, 3]
    asked = [identity for batch in folder.batches() for identity in folder.request_ids(batch)]
    assert sorted(asked) == sorted([*(f"id{number}" for number in range(7)), "long", "last"])
