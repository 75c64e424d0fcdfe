"""`ratify doctor`: what it finds in a run that was damaged on purpose, what it mends, and what it leaves alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import flow_runs
from flows.doctor.finding import Finding
from flows.doctor.machine import check_environment
from flows.doctor.run_folder import check_run
from flows.doctor.verdicts import check_verdicts
from ratify.processes import ProcessMark, is_alive, this_process
from ratify.verdict_store import VerdictStore


@pytest.fixture
def run(labelled_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(labelled_run, tmp_path / "labelled"))


@pytest.fixture
def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def faults(run: Path) -> list[Finding]:
    return [each for check in (check_run, check_verdicts) for each in check(run) if each.level == "fault"]


def test_a_sound_run_has_no_fault(run: Path, ratify: Callable[..., object]) -> None:
    assert faults(run) == []
    said = ratify("doctor", str(run), "--json")
    levels = {each["level"] for each in json.loads(said.out)}
    assert said.code in (0, 12) and "well" in levels


def test_a_changed_file_a_missing_one_and_one_that_nobody_names_are_told_apart(run: Path) -> None:
    label = run / "round-000" / "label"
    changed = bytearray((label / "pairs.parquet").read_bytes())
    changed[20] ^= 1
    (label / "labels.parquet").unlink()
    (label / "stray.bin").write_bytes(b"?")
    shard = next((run / "round-000" / "generate" / "train").iterdir())
    shard.write_bytes(shard.read_bytes() + b"\n")
    said = [each.what for each in check_run(run) if each.level in ("fault", "note")]
    assert f"round-000/generate/train/{shard.name} differs from its manifest" in said
    assert "round-000/label/labels.parquet is missing" in said
    assert "no manifest names round-000/label/stray.bin, so nothing reads it" in said


def test_repair_deletes_what_a_dead_writer_left_and_nothing_else(
    run: Path, dead_pid: int, ratify: Callable[..., object]
) -> None:
    left = run / "round-000" / "label" / f".pairs.parquet.{dead_pid}.tmp"
    checkpoint = run / "round-000" / "policy" / "checkpoint" / ".step-00000002.tmp"
    mine = run / "round-000" / "label" / f".pairs.parquet.{os.getpid()}.tmp"
    checkpoint.mkdir(parents=True)
    for path in (left, mine, checkpoint / "weights.safetensors"):
        path.write_bytes(b"half")
    (run / ".lock").write_text(f"{dead_pid}\n")
    assert len(faults(run)) == 3
    ratify("doctor", str(run), "--repair")
    assert not left.exists() and not checkpoint.exists() and mine.exists()
    assert (run / ".lock").read_text() == "" and faults(run) == []


def test_what_is_in_use_is_left_alone(run: Path, dead_pid: int, ratify: Callable[..., object]) -> None:
    checkpoint = run / "round-000" / "policy" / "checkpoint" / ".step-00000002.tmp"
    checkpoint.mkdir(parents=True)
    with (run / ".lock").open("w+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{dead_pid}\n")
        lock.flush()
        assert faults(run) == []
        ratify("doctor", str(run), "--repair")
    assert checkpoint.exists() and (run / ".lock").read_text() == f"{dead_pid}\n"


def test_a_damaged_verdict_store_is_found(run: Path) -> None:
    path = run / "verdicts.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    found = faults(run)
    assert len(found) == 1 and f"{path} is damaged" in found[0].what and path.read_bytes()[4096:8192] == bytes(4096)


def test_labels_whose_verdicts_are_gone_are_found(run: Path) -> None:
    for path in run.glob("verdicts.sqlite*"):
        path.unlink()
    VerdictStore.in_folder(run).close()
    found = faults(run)
    assert len(found) == 1 and "that" in found[0].what and "are not in the store" in found[0].what


def test_a_process_is_told_from_another_one_with_its_number(dead_pid: int) -> None:
    here = this_process()
    assert is_alive(here)
    assert is_alive(here.model_copy(update={"started": here.started + 1})) is False
    assert is_alive(here.model_copy(update={"pid": dead_pid})) is False
    assert is_alive(here.model_copy(update={"boot": "another"})) is False
    assert is_alive(here.model_copy(update={"host": "elsewhere"})) is None


def test_only_flow_runs_of_this_machine_whose_process_is_gone_are_dead(tmp_path: Path, dead_pid: int) -> None:
    marks = {
        "alive": this_process(),
        "dead": this_process().model_copy(update={"pid": dead_pid}),
        "far": ProcessMark(pid=dead_pid, host=f"not-{socket.gethostname()}", boot="b", started=1),
    }
    for name, mark in marks.items():
        record = flow_runs.FlowRunRecord(id=name, name=name, process=mark)
        (tmp_path / flow_runs.FOLDER).mkdir(exist_ok=True)
        (tmp_path / flow_runs.FOLDER / f"{name}.json").write_text(record.model_dump_json())
    assert [record.name for record in flow_runs.dead(tmp_path)] == ["dead"]
    assert flow_runs.recorded_by_this_process(tmp_path)


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    said = " ".join(each.what + each.remedy for each in check_environment(None))
    assert "the key OPENAI_API_KEY is set" in said and "planted" not in said and "DO_NOT_TRACK" in said
