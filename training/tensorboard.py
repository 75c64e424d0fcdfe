"""Scalars as TensorBoard reads them: one event file for each start of a task, beside metrics.jsonl.

An event file is TFRecords (length, its checksum, data, its checksum; checksums are masked CRC-32C) of `Event` protocol
buffers, of which four fields are written here by hand: TensorBoard and TensorFlow are heavy, this is not. Sources:
tensorflow's `tsl/lib/io/record_writer.h`, `event.proto`, `summary.proto`; CRC-32C by RFC 3720, appendix B.4. A resumed
task starts a file with a session log, which tells TensorBoard to forget the steps behind the checkpoint. Left out:
histograms, texts, graphs.
"""

from __future__ import annotations

import itertools
import math
import struct
import time
from collections.abc import Mapping
from pathlib import Path

VERSION = b"brain.Event:2"
_START = 1
"""SessionLog.START."""


class EventFile:
    """Appends events to a new file in a folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names, so the number grows with each start.
        number = len(list(folder.glob("events.out.tfevents.*")))
        self.path = folder / f"events.out.tfevents.{number:010d}.ratify"
        self._append(_text(3, VERSION), 0)
        if number:
            self._append(_text(7, _integer(1, _START)), first_step)

    def write(self, step: int, values: Mapping[str, object]) -> None:
        """Add the finite numbers of a step."""
        numbers = {name: float(v) for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}
        scalars = [_text(1, _text(1, name.encode()) + _float(2, value)) for name, value in numbers.items()]
        self._append(_text(5, b"".join(scalars)), step)

    def _append(self, what: bytes, step: int) -> None:
        event = _key(1, 1) + struct.pack("<d", time.time()) + _integer(2, step) + what
        with self.path.open("ab") as handle:
            handle.write(record(event))


def record(data: bytes) -> bytes:
    """A TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(crc32c(length))) + data + struct.pack("<I", masked(crc32c(data)))


def masked(checksum: int) -> int:
    """Rotated and shifted, so that a checksum of data that holds checksums is no trouble."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32 with Castagnoli's polynomial, reflected."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = _TABLE[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    return checksum ^ 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_entry, range(256)))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    septets = list(itertools.takewhile(bool, (number >> shift for shift in range(0, 64, 7)))) or [0]
    last = len(septets) - 1
    return bytes((part & 0x7F) | (0x80 if place < last else 0) for place, part in enumerate(septets))


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _integer(field: int, number: int) -> bytes:
    return _key(field, 0) + _varint(number)


def _float(field: int, number: float) -> bytes:
    # A number beyond float32 becomes infinite there, which struct refuses to do by itself.
    return _key(field, 5) + struct.pack("<f", max(-3.4e38, min(3.4e38, number)))


def _text(field: int, data: bytes) -> bytes:
    """Bytes, a string or a message."""
    return _key(field, 2) + _varint(len(data)) + data
