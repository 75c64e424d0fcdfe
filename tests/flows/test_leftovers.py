"""Cleaning takes what is proven to be unneeded, and only when it is told to."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.stages.leftovers import clean
from ratify.promotions import PolicyRecord, Promotions
from ratify.run_store import RunStore

OLD = time.time() - 40 * 86_400


def put(path: Path, *, old: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 10)
    if old:
        os.utime(path, (OLD, OLD))
    return path


@pytest.fixture
def dead_process() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_only_leftovers_go(tmp_path: Path, dead_process: int) -> None:
    run = tmp_path / "runs" / "demo"
    stage = RunStore(run).stage("label")
    stage.begin({"a": 1})
    kept = [
        put(stage.path / "labels.parquet"),
        put(stage.path / f".mine.{os.getpid()}.tmp"),
        put(stage.path / f".young.{dead_process}.tmp", old=False),
        put(run / "round-000" / "generate" / "policy.log"),
        put(run / "verdicts.sqlite"),
        put(run / "policies" / "aaaaaaaaaaaa" / "model.safetensors"),
    ]
    stage.finish({"a": 1}, {}, 1.0)
    gone = [
        put(stage.path / f".shard.{dead_process}.tmp"),
        put(stage.path / "judge.log"),
        put(run / "columns" / "c.npz"),
        put(run / "policies" / "bbbbbbbbbbbb" / "model.safetensors"),
    ]
    named = PolicyRecord(model="m", digest="a" * 64)
    Promotions(run).record("epoch", policy=named, reason="first")
    found, passed = clean(tmp_path / "runs", 30, remove=False)
    assert {each.path for each in found} == {gone[0], gone[1], gone[2].parent, gone[3].parent} and not passed
    assert sum(each.size for each in found) == 40 and all(path.exists() for path in (*kept, *gone))
    clean(tmp_path / "runs", 30, remove=True)
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
    assert clean(tmp_path / "runs", 30, remove=True)[0] == []
    assert stage.verify() == []


def test_a_run_in_use_is_passed_over(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "busy"
    put(run / "columns" / "c.npz")
    (run / "round-000").mkdir()
    program = "import sys, time; from pathlib import Path; from ratify.run_store import RunStore\n" \
              "with RunStore(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"  # fmt: skip
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin and holder.stdout and holder.stdout.readline() == "held\n"
    found, passed = clean(tmp_path / "runs", 30, remove=True)
    holder.communicate()
    assert not found and "in use by process" in passed[0] and (run / "columns" / "c.npz").exists()
