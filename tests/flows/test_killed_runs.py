"""`kill -9` at any moment: the same command finishes the run, and its files are those of an unbroken run, byte for
byte."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ratify.lineage import ROOT

FILES = ("generate/train", "generate/heldout", "label/labels.parquet", "label/pairs.parquet")


def start(stage: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.cli", stage, *arguments, "--no-prefect"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def run_killed(stage: str, arguments: list[str], dice: random.Random) -> int:
    """Kill the stage again and again until it gets through; how often it was killed."""
    kills = 0
    while True:
        child = start(stage, arguments)
        try:
            _, errors = child.communicate(timeout=1.2 + dice.random() * (1.0 + kills))
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            kills += 1
            continue
        assert child.returncode == 0, errors.decode()
        return kills


def contents(run: Path) -> dict[str, bytes]:
    round_folder = run / "round-000"
    found = {}
    for name in FILES:
        path = round_folder / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            found[str(file.relative_to(round_folder))] = file.read_bytes()
    return found


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_an_unbroken_one(small_run: list[str], tmp_path: Path) -> None:
    dice = random.Random(7)
    unbroken = [*small_run, "run.name=unbroken"]
    for stage in ("generate", "label"):
        child = start(stage, unbroken)
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors.decode()
    kills = sum(run_killed(stage, [*small_run, "run.name=killed"], dice) for stage in ("generate", "label"))
    assert kills > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")


def test_two_processes_cannot_work_on_one_run(small_run: list[str], ratify: Callable[..., object]) -> None:
    first = start("generate", [*small_run, "policy.concurrency=1"])
    lock = Path(small_run[1].removeprefix("run.dir=")) / "small" / ".lock"
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGSTOP)  # however slowly the second one starts, the first one is not done
    second = ratify("generate", *small_run, "--no-prefect")
    first.kill()
    first.communicate()
    assert second.code == 6
    assert f"in use by process {first.pid}" in second.err
