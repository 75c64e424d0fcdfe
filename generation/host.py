"""This side of the warm vLLM process: start it, send it commands, know what has become of its servers.

One host per interpreter lives as long as this process, so that every server of a run is forked from one import of
vLLM.
Left out: what a server is told and how its faults read, which are `generation.engine` and `generation.engine_faults`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from ratify.errors import EngineError
from ratify.safety import TELEMETRY_OFF
from ratify.sections import EngineSection

SCRIPT = Path(__file__).with_name("vllm_host.py")
QUIET = TELEMETRY_OFF | {"TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
"""No telemetry, no tokenizer threads that a fork would lose, and log lines that are there when a server dies."""


class EngineHost:
    """A process that has imported vLLM (or is about to) and the servers forked from it."""

    def __init__(self, python: str) -> None:
        self.python = python
        self.unusable: str | None = None
        """Why vLLM does not import there; `missing` when it is not installed."""
        self.log_text = ""
        """What the host itself printed, once it has ended."""
        self._exited: set[int] = set()
        self._ended = False
        self._next = 0
        self._changed = threading.Condition()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process that writes it)
        self._process = self._launch()
        self._listener = threading.Thread(target=self._listen, name="engine-host", daemon=True)
        self._listener.start()

    def _launch(self) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C in the terminal reaches this process alone, which then stops its servers in order.
        try:
            return subprocess.Popen(
                [self.python, str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=os.environ | QUIET,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise EngineError(
                f"engine.python {self.python} cannot be run ({error.strerror}); name the interpreter that has vLLM"
            ) from error

    @property
    def pid(self) -> int:
        """The host's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can start servers."""
        with self._changed:
            return not self._ended and self.unusable is None

    def start(self, args: list[str], *, log: Path, threads: int | None) -> int:
        """Fork a server as soon as vLLM is imported; returns its number at once."""
        with self._changed:
            self._next += 1
            number = self._next
        self._send({"op": "start", "id": number, "args": args, "log": str(log), "threads": threads})
        return number

    def stop(self, number: int, timeout_s: float = 15.0) -> None:
        """Stop a server with its whole process group and wait until it is gone."""
        if self.exited(number):
            return
        self._send({"op": "stop", "id": number})
        with self._changed:
            self._changed.wait_for(lambda: self._gone(number), timeout_s)

    def exited(self, number: int) -> bool:
        """Whether that server has ended, or its host with it."""
        with self._changed:
            return self._gone(number)

    def close(self) -> None:
        """End the host and all its servers."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._listener.join()

    def _gone(self, number: int) -> bool:
        return number in self._exited or self._ended

    def _send(self, command: dict[str, Any]) -> None:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            return
        try:
            with self._changed:
                pipe.write(json.dumps(command).encode() + b"\n")
                pipe.flush()
        except BrokenPipeError:
            # The host has died; `exited` says so, and whoever waits for the server reports it with the log.
            return

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as events:
            for line in events:
                self._hear(json.loads(line))
        self._process.wait()
        with self._log, self._changed:
            self._log.seek(0)
            self.log_text = self._log.read().decode(errors="replace")
            self._ended = True
            self._changed.notify_all()

    def _hear(self, event: dict[str, Any]) -> None:
        with self._changed:
            if event["event"] == "exited":
                self._exited.add(event["id"])
            elif event["event"] == "unusable":
                self.unusable = event["reason"]
            self._changed.notify_all()


_hosts: dict[str, EngineHost] = {}
_lock = threading.Lock()


def host_for(engine: EngineSection) -> EngineHost:
    """The host of this interpreter; starts one where there is none or the last one died."""
    python = str(engine.python or sys.executable)
    with _lock:
        host = _hosts.get(python)
        if host is None or not host.alive:
            if host:
                host.close()
            host = _hosts[python] = EngineHost(python)
        return host


def close_hosts() -> None:
    """End every host and its servers, which gives their memory back."""
    with _lock:
        for host in _hosts.values():
            host.close()
        _hosts.clear()
