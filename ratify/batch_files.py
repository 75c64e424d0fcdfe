"""What a run knows on disk about its batches: the requests, the journal of each batch, and the answers that came back.

    batches/<server and model>/<batch>/requests.jsonl    written whole before anything is sent
                                       batch.json        the journal: rewritten at every step, before the next one
                                       output.jsonl      answers, and
                                       errors.jsonl      faults, as the server wrote them

A batch is named by the hash of its requests, and that name is sent along with it: a process that was killed between
the server's "created" and its own journal finds the batch again by it and pays nothing twice. Left out: the server
(`batch_api.py`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from ratify.canonical import digest
from ratify.errors import StoreError
from ratify.files import replacing, write_text
from ratify.types import Record

MAX_REQUESTS = 50_000
MAX_BYTES = 150_000_000
"""OpenAI takes 50,000 requests and 200 MB in one file."""
REQUESTS, JOURNAL, OUTPUT, ERRORS = "requests.jsonl", "batch.json", "output.jsonl", "errors.jsonl"

State = Literal["written", "uploaded", "creating", "created", "ended"]


class Batch(Record):
    """The journal of one batch."""

    name: str
    """SHA-256 of the requests file."""
    requests: int
    state: State = "written"
    """`creating` is written before the request that costs money, `ended` after the answers are on disk."""
    file_id: str = ""
    batch_id: str = ""


class Line(NamedTuple):
    """Where the answer to one request lies."""

    path: Path
    offset: int
    length: int


def request_id(request: Mapping[str, Any]) -> str:
    """The custom id of a request: SHA-256 of its body, seed and all. The same request has the same answer."""
    return digest(dict(request))


class BatchFolder:
    """The batches for one model at one server."""

    def __init__(self, folder: Path, base_url: str, model: str) -> None:
        self.path = folder / digest({"base_url": base_url, "model": model})[:16]

    def batches(self) -> list[Batch]:
        """Every batch that has a journal, by name."""
        found = []
        for journal in sorted(self.path.glob(f"*/{JOURNAL}")):
            try:
                found.append(Batch.model_validate_json(journal.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                raise StoreError(
                    f"{journal} cannot be read; it names a batch that may be paid for, so look the batch up at the "
                    "server before you delete the folder"
                ) from None
        return found

    def folder(self, batch: Batch) -> Path:
        """Where a batch's files lie."""
        return self.path / batch.name[:16]

    def save(self, batch: Batch) -> Batch:
        """Write the journal; it is on disk on return."""
        write_text(self.folder(batch) / JOURNAL, batch.model_dump_json(indent=2) + "\n")
        return batch

    def discard(self, batch: Batch) -> None:
        """Forget a batch; the journal goes first, since it is what makes the rest count."""
        (self.folder(batch) / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.folder(batch), ignore_errors=True)

    def request_ids(self, batch: Batch) -> Iterator[str]:
        """The requests of a batch."""
        for _, line in _lines(self.folder(batch) / REQUESTS):
            yield str(json.loads(line)["custom_id"])

    def answers(self, batch: Batch) -> dict[str, Line]:
        """Where the answers of an ended batch lie, by custom id: an answer before a fault, the first before others."""
        found: dict[str, Line] = {}
        for name in (OUTPUT, ERRORS):
            path = self.folder(batch) / name
            offset = 0
            for _, line in _lines(path):
                identity = _custom_id(line)
                if identity and identity not in found:
                    found[identity] = Line(path, offset, len(line))
                offset += len(line)
        return found


class RequestWriter:
    """Writes requests into as many batches as they need. Use it as a context manager: leaving it without a fault writes
    the journals."""

    def __init__(self, folder: BatchFolder, *, max_requests: int = MAX_REQUESTS, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._limits = (max_requests, max_bytes)
        self._lines: list[bytes] = []
        self._bytes = 0
        self.batches: list[Batch] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_exception: object) -> None:
        if kind is None:
            self._flush()

    def add(self, identity: str, request: Mapping[str, Any]) -> None:
        """Write one request."""
        line = {"custom_id": identity, "method": "POST", "url": "/v1/chat/completions", "body": request}
        encoded = json.dumps(line).encode() + b"\n"
        if self._lines and (len(self._lines) >= self._limits[0] or self._bytes + len(encoded) > self._limits[1]):
            self._flush()
        self._lines.append(encoded)
        self._bytes += len(encoded)

    def _flush(self) -> None:
        if not self._lines:
            return
        batch = Batch(name=hashlib.sha256(b"".join(self._lines)).hexdigest(), requests=len(self._lines))
        path = self._folder.folder(batch) / REQUESTS
        with replacing(path) as temporary, temporary.open("wb") as handle:
            handle.writelines(self._lines)
        self.batches.append(self._folder.save(batch))
        self._lines, self._bytes = [], 0


def read_line(line: Line) -> bytes:
    """One line of an answer file."""
    with line.path.open("rb") as handle:
        handle.seek(line.offset)
        return handle.read(line.length)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.exists():
        with path.open("rb") as handle:
            yield from enumerate(handle)


def _custom_id(line: bytes) -> str | None:
    """None for a line that is no answer; its request then counts as unanswered."""
    try:
        identity = json.loads(line)["custom_id"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return identity if isinstance(identity, str) else None
