"""A fixed share of a processor core for each of some processes, so that two cores stand for many slower ones.

Needs Linux with the cpu controller of control groups, version 1, and the right to make groups. Left out: version 2,
which no machine of ours has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CONTROLLER = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 10_000
"""Shares are kept within each period: a tenth of the kernel's own, so that a process never stands still for long."""


def available() -> bool:
    """Whether this machine lets us give out shares."""
    return (CONTROLLER / "cpu.cfs_quota_us").exists() and os.access(CONTROLLER, os.W_OK)


@contextmanager
def shares(processes: list[int], share: float) -> Iterator[None]:
    """Let each process, by id, run for `share` of a core; those that live afterwards run freely again."""
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(_share(process, share))
        yield


@contextmanager
def _share(process: int, share: float) -> Iterator[None]:
    group = CONTROLLER / f"ratify-bench-{process}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US), encoding="ascii")
        (group / "cpu.cfs_quota_us").write_text(str(round(share * PERIOD_US)), encoding="ascii")
        (group / "cgroup.procs").write_text(str(process), encoding="ascii")
        yield
    finally:
        for left in (group / "cgroup.procs").read_text(encoding="ascii").split():
            (CONTROLLER / "cgroup.procs").write_text(left, encoding="ascii")
        group.rmdir()
