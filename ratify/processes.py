"""Who a process is, so that another one can tell later, on the same machine, whether it still lives.

A process id alone is given again: with the machine's boot and the process's start time it is not. What is said of a
process on another machine is None: nobody here can know.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_START_FIELD = 19
"""Of /proc/PID/stat, counted after the name: start time in clock ticks since boot."""


class ProcessMark(BaseModel):
    """One process of one machine since one boot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    host: str
    boot: str
    """The kernel's identifier of this boot."""
    started: int
    """Clock ticks between boot and the process's start."""


def this_process() -> ProcessMark:
    """The mark of the process that asks."""
    pid = os.getpid()
    return ProcessMark(pid=pid, host=socket.gethostname(), boot=_boot(), started=_started(pid) or 0)


def is_alive(mark: ProcessMark) -> bool | None:
    """Whether that process still runs; None when it ran on another machine."""
    if mark.host != socket.gethostname():
        return None
    return mark.boot == _boot() and _started(mark.pid) == mark.started


def pid_is_alive(pid: int) -> bool:
    """Whether any process has this id and is no zombie."""
    return _started(pid) is not None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Start time of a process; None for one that is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[_START_FIELD])
