"""A run's training on two machines by their real commands, one of which is killed; what a further machine refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ratify.errors import TrainingError
from ratify.lineage import ROOT
from training.devices import MACHINE_RANK

LIMIT_S = 240
SETTINGS = [
    "configs/demo.toml", "run.name=labelled", "prompts.train_limit=20", "prompts.heldout_limit=4",
    "policy.model=data/demo/policy", "judge.kind=rules", "reward_model.enabled=false", "preference.threads=1",
    "preference.batch_prompts=2", "preference.epochs=1", "preference.save_every_steps=1", "preference.max_kl=1000",
]  # fmt: skip


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "two.yaml"
    path.write_text(
        "distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 2\nmain_process_ip: 127.0.0.1\n"
        f"main_process_port: {port}\n"
    )
    return path


def start(rank: int, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "train", *arguments, "--no-prefect"],
        cwd=ROOT,
        env={**os.environ, MACHINE_RANK: str(rank), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_machines_train_a_run_and_go_on_after_one_was_killed(
    labelled_run: Path, devices: Path, tmp_path: Path
) -> None:
    commands = []
    for rank in (0, 1):  # what `ratify pull` leaves on the second machine
        shutil.copytree(labelled_run, tmp_path / str(rank) / "labelled")
        commands.append([*SETTINGS, f"run.dir={tmp_path / str(rank)}", f"preference.accelerate_config={devices}"])
    stage = tmp_path / "0" / "labelled" / "round-000" / "policy"
    both = [start(rank, command) for rank, command in enumerate(commands)]
    until = time.monotonic() + LIMIT_S
    while not any((stage / "checkpoint").glob("step-*")):
        assert time.monotonic() < until and both[0].poll() is None, both[0].communicate(timeout=30)
        time.sleep(0.05)
    both[1].send_signal(signal.SIGKILL)
    said, _ = both[0].communicate(timeout=LIMIT_S)
    both[1].communicate(timeout=30)
    assert both[0].returncode == TrainingError.exit_code and "another process of this training is gone" in said, said
    assert any((stage / "checkpoint").glob("step-*")) and not (stage / "result.json").exists()

    both = [start(rank, command) for rank, command in enumerate(commands)]
    said, joined = (each.communicate(timeout=LIMIT_S)[0] for each in both)
    assert [each.returncode for each in both] == [0, 0], said + joined
    assert "machine 1 took part; the result lies on machine 0" in joined
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, len(steps) + 1)) and steps[-1] == lines[-1]["steps"]
    second = tmp_path / "1" / "labelled" / "round-000"
    assert not (second / "policy").exists() and (second / "policy.machine-1" / "log.txt").is_file()
    again = start(0, commands[0])
    assert again.communicate(timeout=LIMIT_S)[0] and again.returncode == 0, "there is nobody to wait for"


@pytest.mark.parametrize(
    ("rank", "command", "more", "code", "sentence"),
    [
        ("1", "train", [], 3, "RATIFY_MACHINE_RANK is 1 and this command trains nothing on several machines"),
        ("1", "label", [], 3, "RATIFY_MACHINE_RANK is 1 and this command trains nothing on several machines"),
        ("2", "train", ["preference.accelerate_config=FILE"], 3, "two.yaml has 2 machines: give 0 to 1"),
        ("1", "train", ["preference.accelerate_config=FILE"], 6, "stage 'label' of"),
        ("0", "rounds", ["reward_model.accelerate_config=FILE"], 2, "works on one machine, and reward_model trains on"),
    ],
)
def test_what_a_machine_cannot_do_is_one_sentence(
    rank: str,
    command: str,
    more: list[str],
    code: int,
    sentence: str,
    devices: Path,
    tmp_path: Path,
    ratify: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MACHINE_RANK, rank)
    settings = ["configs/demo.toml", f"run.dir={tmp_path}", "run.name=none", "reward_model.enabled=false"]
    if command == "rounds":
        settings[-1] = "reward_model.enabled=true"
    said = ratify(command, *settings, *(each.replace("FILE", str(devices)) for each in more), "--no-prefect")
    assert said.code == code and said.err.count("\n") == 1 and sentence in said.err, said
    assert not (tmp_path / "none" / "round-000").exists()
