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
    return ProcessMark(pid=pid, host=socket.gethostname(), boot=boot_id(), started=start_time(pid) or 0)


def is_alive(mark: ProcessMark) -> bool | None:
    """Whether that process still runs; None when it ran on another machine."""
    if mark.host != socket.gethostname():
        return None
    return mark.boot == boot_id() and start_time(mark.pid) == mark.started


def pid_is_alive(pid: int) -> bool:
    """Whether any process has this id and is no zombie."""
    return start_time(pid) is not None


def boot_id() -> str:
    """The kernel's identifier of this boot; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """Clock ticks between the boot and a process's start; None for one that is gone or only waits to be reaped."""
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[_START_FIELD])


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the program's name, state first (proc_pid_stat(5)); None for one that is
    gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
