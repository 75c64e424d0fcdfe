"""Append-only files: one line an event, which counts once it is whole and on disk.

A line that a killed process left half-written is no event, and the next writer drops it. Take the run's lock before
writing. What a line means is its owner's business.
"""

from __future__ import annotations

import os
from pathlib import Path

from ratify.errors import StoreError
from ratify.files import disk_fault, flush


def whole_lines(path: Path) -> list[bytes]:
    """The whole lines of a journal, oldest first; none where there is no file yet."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def append_line(path: Path, line: str) -> None:
    """Write one line, whole and on disk, or nothing.

    Raises:
        StoreError: the disk is full or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as handle:
            handle.truncate(len(b"".join(whole + b"\n" for whole in whole_lines(path))))
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        flush(path.parent)
    except OSError as error:
        raise StoreError(disk_fault(path, error)) from error
