"""Prefect's own server is killed in the middle of a run: the stage ends, the process says so and leaves, and the next
run tells Prefect what became of the one before."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import flow_runs
from ratify.errors import SchedulerError
from ratify.lineage import ROOT
from ratify.run_store import RunStore


def start(stage: str, arguments: list[str], home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": ""}
    command = [sys.executable, "-m", "flows.cli", stage, *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def server_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    servers = [int(child) for child in children if b"temporary_server" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(servers) == 1
    return servers[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_server_costs_no_stage_and_its_flow_run_is_marked_by_the_next_run(
    small_run: list[str], tmp_path: Path
) -> None:
    home, run = tmp_path / "prefect", tmp_path / "small"
    first = start("generate", [*small_run, "policy.concurrency=1"], home)
    begun = run / "round-000" / "generate" / "inputs.json"
    deadline = time.monotonic() + 200
    while not begun.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    server = server_of(first.pid)
    os.kill(server, signal.SIGKILL)
    _, said = first.communicate(timeout=240)
    assert first.returncode == SchedulerError.exit_code, said
    assert "Prefect's server was lost" in said and "Traceback" not in said and "Error logging" not in said
    stage = RunStore(run).stage("generate")
    assert stage.manifest() is not None and stage.verify() == []
    (record,) = flow_runs.dead(run)

    second = start("label", small_run, home)
    server = None
    while second.poll() is None and server is None:
        time.sleep(0.05)
        children = Path(f"/proc/{second.pid}/task/{second.pid}/children").read_text().split()
        server = int(children[0]) if children else None
    out, said = second.communicate(timeout=200)
    assert second.returncode == 0, said
    assert "judging" in out and flow_runs.records(run) == []
    assert server is not None and not Path(f"/proc/{server}").exists()
    with sqlite3.connect(home / "prefect.db") as database:
        states = dict(database.execute("SELECT id, state_type FROM flow_run").fetchall())
        left = database.execute("SELECT count(*) FROM task_run WHERE state_type = 'RUNNING'").fetchone()
    assert states.pop(record.id) == "CRASHED" and set(states.values()) == {"COMPLETED"} and left == (0,)
