"""The child process: real ones from end to end, killed and resumed, and its faults as sentences."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from ratify.errors import InputError, TrainingError
from ratify.sections import OptimiserSection, PreferenceSection
from training import child, launch
from training.metrics import read_metrics
from training.preference import train_preference
from training.spec import PreferenceTask, ScoreTask, fingerprint, load_spec

Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]

PARENT = """
import sys
from pathlib import Path
from training.launch import launch
from training.spec import load_spec
launch(load_spec(Path(sys.argv[1])))
"""


def make_spec(data: Path, out: Path, model: Path, **settings: Any) -> PreferenceTask:
    section = PreferenceSection(**{"learning_rate": 5e-3, "batch_prompts": 4, "threads": 1, **settings})
    return PreferenceTask(data=data, out=out, model=str(model), section=section)


def write_spec(spec: PreferenceTask | ScoreTask, path: Path) -> Path:
    path.write_text(spec.model_dump_json())
    return path


def wait_for(condition: Callable[[], bool], limit_s: float = 120) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Running and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_parent_killed_with_9_leaves_no_orphan_and_resume_is_bit_identical(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    data = write_rows(learnable_rows(16))
    spec = make_spec(data, tmp_path / "killed", policy_folder, epochs=20, save_every_steps=10)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(write_spec(spec, tmp_path / "spec.json"))])
    wait_for(lambda: any((spec.out / "checkpoint").glob("step-*")) or parent.poll() is not None)
    workers = children_of(parent.pid)
    assert len(workers) == 1 and parent.poll() is None
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not alive(workers[0]), limit_s=5)
    assert not (spec.out / "result.json").exists()

    seen: list[tuple[int, int]] = []

    def note(step: int, steps: int, metrics: Mapping[str, object]) -> None:
        seen.append((step, steps))

    result = launch.launch(spec, on_progress=note)
    assert result.metrics["steps"] == result.metrics["planned_steps"] and seen[-1] == (80, 80)
    steps = [m["step"] for m in read_metrics(spec.out / "metrics.jsonl") if "loss" in m]
    assert steps == list(range(1, 81))
    straight = make_spec(data, tmp_path / "straight", policy_folder, epochs=20, save_every_steps=10)
    train_preference(straight, "mark")
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (spec.out, straight.out))
    assert all((ours[name] == theirs[name]).all() for name in theirs) and ours.keys() == theirs.keys()
    assert not (spec.out / "checkpoint").exists()

    started = time.monotonic()
    assert launch.launch(spec) == result and time.monotonic() - started < 1
    other = spec.model_copy(update={"seed": 1})
    with pytest.raises(TrainingError, match="finished result of another model"):
        launch.launch(other)


@pytest.mark.slow
def test_two_processes_through_the_launcher(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    data = write_rows(learnable_rows(9))
    spec = make_spec(data, tmp_path / "two", policy_folder, processes=2)
    result = launch.launch(spec)
    _, alone = train_preference(make_spec(data, tmp_path / "one", policy_folder), "mark")
    for name in ("train/loss", "train/kl", "train/margin", "steps"):
        assert result.metrics[name] == pytest.approx(alone.metrics[name], rel=1e-4), name


def test_faults_become_one_sentence_and_an_exit_code(policy_folder: Path, tmp_path: Path, write_rows: Write) -> None:
    spec = make_spec(write_rows([{"prompt": "a", "chosen": "b", "rejected": "b"}]), tmp_path / "out", policy_folder)
    assert child.main([str(write_spec(spec, tmp_path / "spec.json"))]) == InputError.exit_code
    fault = json.loads((spec.out / "error.json").read_text())
    assert fault["kind"] == "InputError" and "pairs.jsonl:1: chosen equals rejected" in fault["message"]
    with pytest.raises(InputError, match=r"chosen equals rejected.*\(log: .*log\.txt\)"):
        launch._raise_fault(spec, InputError.exit_code, spec.out)


def test_out_of_memory_says_which_setting_to_lower(
    policy_folder: Path, tmp_path: Path, write_rows: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(write_rows([]), tmp_path / "out", policy_folder)

    def exhausted(path: Path) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried …")

    monkeypatch.setattr(child, "_run", exhausted)
    assert child.main([str(write_spec(spec, tmp_path / "spec.json"))]) == TrainingError.exit_code
    assert "lower preference.tokens_per_micro_batch (now 8192)" in (spec.out / "error.json").read_text()
    (spec.out / "error.json").unlink()
    with pytest.raises(TrainingError, match=r"was killed.*lower preference\.tokens_per_micro_batch"):
        launch._raise_fault(spec, -signal.SIGKILL, spec.out)


def test_full_disk_while_the_model_is_saved_is_one_sentence(
    policy_folder: Path, tmp_path: Path, write_rows: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors has no OSError for it; the checkpoint of the last step is still there and nothing is half-written."""
    data = write_rows([{"prompt": f"{n}", "chosen": "a", "rejected": "b"} for n in range(4)])
    spec = make_spec(data, tmp_path / "out", policy_folder)

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr(PreTrainedModel, "save_pretrained", full)
        assert child.main([str(write_spec(spec, tmp_path / "spec.json"))]) == TrainingError.exit_code
    assert "the disk is full" in (spec.out / "error.json").read_text()
    assert (spec.out / "checkpoint" / "step-00000001").is_dir() and not (spec.out / "model").exists()
    assert child.main([str(tmp_path / "spec.json")]) == 0
    assert (spec.out / "model" / "model.safetensors").is_file()


def test_interrupting_the_parent_stops_the_whole_group(tmp_path: Path) -> None:
    """A child that ignores SIGTERM and has a child of its own is gone after the grace period."""
    code = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen(['sleep', '60']); print(1, flush=True); time.sleep(60)"
    )
    stubborn = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    grandchildren = children_of(stubborn.pid)
    launch.stop_group(stubborn, grace_s=0.2)
    stubborn.stdout.close()
    assert stubborn.returncode == -signal.SIGKILL and len(grandchildren) == 1
    wait_for(lambda: not alive(grandchildren[0]), limit_s=5)


def test_fingerprint_ignores_memory_knobs_and_sees_the_rest(
    policy_folder: Path, tmp_path: Path, write_rows: Write
) -> None:
    data = write_rows([{"prompt": "a"}])
    plain = make_spec(data, tmp_path / "a", policy_folder)
    settings = {"tokens_per_micro_batch": 1, "gradient_checkpointing": True, "processes": 2, "layout": "padded"}
    knobs = make_spec(data, tmp_path / "b", policy_folder, **settings)
    assert fingerprint(plain) == fingerprint(knobs)
    for other in (make_spec(data, tmp_path, policy_folder, beta=0.2), plain.model_copy(update={"seed": 1})):
        assert fingerprint(other) != fingerprint(plain)
    data.write_text("changed")
    assert fingerprint(plain) != fingerprint(
        knobs.model_copy(update={"data": write_rows([{"prompt": "a"}], "c.jsonl")})
    )


def test_launching_needs_no_torch() -> None:
    code = "import sys, training.launch; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pyarrow')))"
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "."}, check=False).returncode == 0
    )


def test_spec_survives_the_file(tmp_path: Path) -> None:
    spec = ScoreTask(data=Path("d.jsonl"), out=Path("o"), models={"new": "m"}, section=OptimiserSection(threads=1))
    assert load_spec(write_spec(spec, tmp_path / "spec.json")) == spec


@pytest.mark.slow
def test_sigterm_ends_the_step_writes_a_checkpoint_and_resume_is_bit_identical(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    """No checkpoint is due before the end, so the one that is found was written for the signal."""
    data = write_rows(learnable_rows(16))
    spec = make_spec(data, tmp_path / "cancelled", policy_folder, epochs=40, save_every_steps=0)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(write_spec(spec, tmp_path / "spec.json"))], stderr=subprocess.DEVNULL
    )
    log = spec.out / "metrics.jsonl"
    wait_for(lambda: (log.exists() and log.read_text().count('"loss"') > 1) or parent.poll() is not None)
    workers = children_of(parent.pid)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(60) == 128 + signal.SIGTERM and not any(alive(pid) for pid in workers)
    (checkpoint,) = (spec.out / "checkpoint").glob("step-*")
    assert 0 < int(checkpoint.name.removeprefix("step-")) < 160
    launch.launch(spec)
    straight = make_spec(data, tmp_path / "straight", policy_folder, epochs=40, save_every_steps=0)
    train_preference(straight, "mark")
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (spec.out, straight.out))
    assert all((ours[name] == theirs[name]).all() for name in theirs) and ours.keys() == theirs.keys()


def test_a_time_limit_stops_the_child_and_keeps_its_checkpoint(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    limited = {"epochs": 2000, "save_every_steps": 1, "time_limit_s": 0.1}
    spec = make_spec(write_rows(learnable_rows(4)), tmp_path / "limited", policy_folder, **limited)
    unlimited = make_spec(spec.data, tmp_path / "free", policy_folder, epochs=2000, save_every_steps=1)
    assert fingerprint(spec) == fingerprint(unlimited)
    with pytest.raises(TrainingError, match=r"preference\.time_limit_s = 0\.1 s; run again"):
        launch.launch(spec)
    assert not (spec.out / "result.json").exists()
