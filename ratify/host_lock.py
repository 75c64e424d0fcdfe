"""One training or serving process per machine with GPUs: a lock of the operating system, which needs no server.

Two runs on one GPU machine would take each other's memory. Whoever starts vLLM or a trainer there holds the lock until
its last child has ended; the kernel drops it when the holder dies, however it dies. Others wait and say for whom. A
machine without GPUs needs no turn: its processes share the processor, only slower. Under Prefect a concurrency limit
`gpu:HOST` queues runs before they come here (docs/faults.md).
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ratify.errors import StoreError

VARIABLE = "RATIFY_HOST_LOCK"
"""Another path for the lock file, also on a machine without GPUs; `off` takes no lock."""
POLL_S = 0.2
OnWait = Callable[[str, float], None]
"""Called with who holds the machine and the seconds waited so far."""


class _Turn:
    """The lock as this process holds it: once, however many children it has."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.holders = 0
        self.handle: TextIO | None = None


_TURN = _Turn()


def lock_path() -> Path | None:
    """The lock file of this machine; None where no turn is needed."""
    named = os.environ.get(VARIABLE)
    if named:
        return None if named == "off" else Path(named)
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    return Path(tempfile.gettempdir()) / f"ratify-gpu-{socket.gethostname()}.lock"


def limit_name() -> str | None:
    """The name of Prefect's concurrency limit for this machine; None where no turn is needed."""
    return f"gpu:{socket.gethostname()}" if lock_path() is not None else None


@contextmanager
def turn(what: str, on_wait: OnWait | None = None) -> Iterator[None]:
    """Hold the machine for a child of this process, waiting while another process does.

    Args:
        what: who asks, for those who wait.
        on_wait: called while waiting.

    Raises:
        StoreError: the lock file cannot be opened.
    """
    take(what, on_wait)
    try:
        yield
    finally:
        give_back()


def take(what: str, on_wait: OnWait | None = None) -> None:
    """Begin a turn, waiting for it; every one is given back once, with `give_back`."""
    started = time.monotonic()
    while (holder := try_take(what)) is not None:
        if on_wait:
            on_wait(holder, time.monotonic() - started)
        time.sleep(POLL_S)


def try_take(what: str) -> str | None:
    """Begin a turn if the machine is free, and return None; else who has it."""
    path = lock_path()
    with _TURN.guard:
        if path is not None and _TURN.holders == 0:
            handle = _opened(path)
            if not _acquired(handle):
                with handle:
                    return handle.read().strip() or "another process"
            handle.truncate(0)
            handle.write(f"process {os.getpid()} ({what})\n")
            handle.flush()
            _TURN.handle = handle
        _TURN.holders += 1
    return None


def give_back() -> None:
    """End a turn; the last one frees the machine."""
    with _TURN.guard:
        _TURN.holders -= 1
        if _TURN.holders == 0 and _TURN.handle is not None:
            _TURN.handle.truncate(0)
            _TURN.handle.close()
            _TURN.handle = None


def _opened(path: Path) -> TextIO:
    try:
        # Other users of the machine must be able to lock it too.
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"the lock of this machine's GPUs, {path}, cannot be opened ({error.strerror}); set {VARIABLE} to a path "
            "that all who use them can write"
        ) from error


def _acquired(handle: TextIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
