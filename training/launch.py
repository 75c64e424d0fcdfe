"""Run a training task in a child process and watch it: progress, cancellation, and its fault as an exception.

The child has its own process group, so that cancelling reaches every worker, and dies when this process dies. On a
further machine `join` takes part in what `launch` runs on the first. Imports no torch: a flow stays light, and what
training allocated is gone when it ends. Left out: what is trained (`child`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ratify.errors import EndpointError, EngineError, InputError, StoreError, TrainingError
from ratify.files import write_text
from ratify.host_lock import OnWait, turn
from ratify.safety import TELEMETRY_OFF
from training.devices import MACHINE_RANK, check_devices, devices_of, machine_rank, own_folder
from training.lifeline import PARENT_VARIABLE
from training.result import TrainResult, check_same, read_result
from training.spec import TrainSpec, fingerprint

POLL_S = 0.2
GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL."""
_CHECKOUT = Path(__file__).resolve().parent.parent
_KINDS = {kind.__name__: kind for kind in (InputError, StoreError, EngineError, EndpointError)}

Progress = Callable[[int, int, Mapping[str, object]], None]
"""Called with (step, steps, metrics) for each line of metrics.jsonl; `metrics["phase"]` says of what."""


def launch(spec: TrainSpec, on_progress: Progress | None = None) -> TrainResult:
    """Run a task to its end, or hand back the result that is already there.

    Blocks; on KeyboardInterrupt, SIGTERM (in the main thread) or any other exception the child's process group gets
    SIGTERM and ten seconds later SIGKILL. A task that was killed goes on from its checkpoint when launched again.

    Args:
        spec: a task of `training.spec`.
        on_progress: told of every step.

    Raises:
        InputError: the data or a model cannot be used.
        StoreError: the disk is full, or the lock of this machine's GPUs cannot be opened.
        TrainingError: its time is over, or anything else, with the log's path; the checkpoint stays.
    """
    if (finished := read_result(spec.out)) is not None:
        return check_same(finished, fingerprint(spec), spec.out)
    check_devices(spec.task, spec.section)
    if rank := machine_rank(spec.section):
        raise InputError(f"this is machine {rank} (by {MACHINE_RANK} or machine_rank), which can only join a training")
    return _outcome(spec, _run(spec, spec.out, on_progress))


def join(spec: TrainSpec, on_progress: Progress | None = None) -> None:
    """Take part, on a further machine, in a task that machine 0 launches; what comes of it lies there.

    Blocks and is cancelled as `launch` is. Progress is told where this machine sees machine 0's folder.

    Raises:
        InputError: the data or a model cannot be used, or machine 0 has other ones.
        TrainingError: machine 0 is not there, its time is over, or anything else, with the log's path.
    """
    check_devices(spec.task, spec.section)
    folder = own_folder(spec)
    if (code := _run(spec, folder, on_progress)) != 0:
        _raise_fault(spec, code, folder)


def _run(spec: TrainSpec, folder: Path, on_progress: Progress | None) -> int:
    """Run the child with its log in `folder`; returns its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.json").unlink(missing_ok=True)
    spec_path = folder / "spec.json"
    write_text(spec_path, spec.model_dump_json(indent=2) + "\n")
    with (
        (folder / "log.txt").open("ab") as log,
        _sigterm_raises(),
        turn(f"training in {spec.out}", _waiting(on_progress)),
    ):
        child = subprocess.Popen(
            [sys.executable, "-m", "training.child", str(spec_path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(spec),
            start_new_session=True,
        )
        try:
            _watch(child, MetricsTail(spec.out / "metrics.jsonl", on_progress), spec, folder / "log.txt")
        finally:
            stop_group(child)
    return child.returncode


def child_environment(spec: TrainSpec) -> dict[str, str]:
    """This environment with telemetry off, this checkout importable, and the section's number of threads."""
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_CHECKOUT), *([inherited] if inherited else [])]),
        PARENT_VARIABLE: str(os.getpid()),
        **TELEMETRY_OFF,
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
    }
    if spec.section.threads is not None:
        environment["OMP_NUM_THREADS"] = str(spec.section.threads)
    # A launcher around this process must not make the child believe that it is one of its workers.
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "GROUP_RANK"):
        environment.pop(name, None)
    return environment


def stop_group(child: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """End every process of the child's group: SIGTERM, then SIGKILL to whatever is left."""
    with contextlib.suppress(ProcessLookupError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(grace_s)
        # Also when the child itself has ended: its workers must not outlive it.
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class MetricsTail:
    """Reads the lines that were added to metrics.jsonl and passes them on."""

    def __init__(self, path: Path, on_progress: Progress | None) -> None:
        self.path = path
        self.on_progress = on_progress
        # What an earlier, killed run has logged is no progress of this one.
        self._offset = path.stat().st_size if path.is_file() else 0
        self._file_id = self._identity()

    def poll(self) -> None:
        """Pass on every new whole line."""
        if self.on_progress is None or not self.path.is_file():
            return
        if self._identity() != self._file_id:
            # A resumed child replaces the file; it holds the steps until the checkpoint.
            self._file_id, self._offset = self._identity(), 0
        with self.path.open("rb") as handle:
            handle.seek(self._offset)
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                metrics = json.loads(line)
                self.on_progress(metrics["step"], metrics["steps"], metrics)

    def _identity(self) -> int | None:
        return self.path.stat().st_ino if self.path.is_file() else None


def _watch(child: subprocess.Popen[bytes], tail: MetricsTail, spec: TrainSpec, log: Path) -> None:
    """Until the child ends, or its time is over; by a clock that nobody sets."""
    limit_s, started = spec.section.time_limit_s, time.monotonic()
    while child.poll() is None:
        tail.poll()
        if limit_s is not None and time.monotonic() - started > limit_s:
            raise TrainingError(
                f"training was stopped after {spec.task}.time_limit_s = {limit_s:g} s; run again, it goes on from its "
                f"checkpoint with as much time again (log: {log})"
            )
        time.sleep(POLL_S)
    tail.poll()


def _waiting(on_progress: Progress | None) -> OnWait:
    """Shows for whom training waits."""

    def wait(holder: str, seconds: float) -> None:
        if on_progress:
            on_progress(int(seconds), 0, {"phase": f"waiting for this machine's GPU, which {holder} has"})

    return wait


def _outcome(spec: TrainSpec, code: int) -> TrainResult:
    result = read_result(spec.out)
    if code != 0 or result is None:
        _raise_fault(spec, code, spec.out)
    return result


def _raise_fault(spec: TrainSpec, code: int, folder: Path) -> NoReturn:
    """The child's own sentence, or what its exit code tells."""
    log = folder / "log.txt"
    error = folder / "error.json"
    if error.is_file():
        fault = json.loads(error.read_text(encoding="utf-8"))
        raise _KINDS.get(fault["kind"], TrainingError)(f"{fault['message']} (log: {log})")
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        setting = f"{spec.task}.tokens_per_micro_batch"
        raise TrainingError(
            f"the training process was killed, most likely because memory ran out: lower {setting} "
            f"(now {spec.section.tokens_per_micro_batch}) and run again, it goes on from its checkpoint (log: {log})"
        )
    devices = devices_of(spec.section)
    if devices.machines > 1:
        raise TrainingError(
            f"this machine's training processes ended with exit code {code}: all {devices.machines} machines must run "
            f"the same command within ten minutes and reach machine 0 at {devices.address}:{devices.port}; run it "
            f"again on each, training goes on from its checkpoint (log: {log})"
        )
    raise TrainingError(f"the training process ended with exit code {code} and without a result (log: {log})")


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into SystemExit while a child runs, unless somebody handles it or this is no main thread."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not mine:
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
