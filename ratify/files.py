"""Files that are whole or absent: write to a temporary name, flush to disk, rename.

A reader never sees half a file, and a process killed at any moment leaves the old file or the new one. A full disk
becomes one sentence, and the temporary file is removed.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from ratify.canonical import JsonValue
from ratify.errors import StoreError

RecordT = TypeVar("RecordT", bound=BaseModel)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        flush(temporary)
        temporary.rename(path)
        flush(path.parent)
    except OSError as error:
        raise StoreError(disk_fault(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_fault(path: Path, error: OSError) -> str:
    """One sentence for a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {path} was not written; free some space and run the same command again"
    return f"{path} cannot be written ({error.strerror or error}); nothing half-written was left behind"


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: JsonValue) -> None:
    """Write indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_records(path: Path, records: Iterable[BaseModel]) -> None:
    """Write records as JSON lines."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for record in records:
            handle.write(record.model_dump_json() + "\n")


def read_records(path: Path, kind: type[RecordT]) -> list[RecordT]:
    """Read JSON lines that this project wrote."""
    with path.open(encoding="utf-8") as handle:
        return [kind.model_validate_json(line) for line in handle]
