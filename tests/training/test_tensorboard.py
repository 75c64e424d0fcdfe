"""Event files against published checksums, bytes worked by hand, and Google's own protocol-buffer parser."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from training.metrics import PHASE, MetricsLog
from training.tensorboard import EventFile, crc32c, masked, record

RFC_3720 = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"123456789", 0xE3069283),
]


@pytest.mark.parametrize(("data", "checksum"), RFC_3720)
def test_checksum_is_that_of_rfc_3720(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


def test_mask_by_hand() -> None:
    """Rotated right by 15 bits, 1 becomes 2^17; 0 stays; the constant comes on top, modulo 2^32."""
    assert masked(0) == 0xA282EAD8 and masked(1) == 0xA284EAD8
    assert masked(0xFFFFFFFF) == 0xA282EAD7


def test_record_is_framed_by_length_and_both_checksums() -> None:
    made = record(b"123456789")
    assert made[:8] == b"\x09" + bytes(7) and made[12:21] == b"123456789" and len(made) == 25
    assert struct.unpack("<I", made[8:12])[0] == masked(crc32c(made[:8]))
    assert struct.unpack("<I", made[21:])[0] == masked(0xE3069283)


def event_class() -> type:
    """`Event` as event.proto and summary.proto declare it, as far as it is written; built by protobuf itself."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="test", syntax="proto3")
    fields = {
        "Value": [("tag", 1, kinds.TYPE_STRING, ""), ("simple_value", 2, kinds.TYPE_FLOAT, "")],
        "Summary": [("value", 1, kinds.TYPE_MESSAGE, ".test.Value")],
        "SessionLog": [("status", 1, kinds.TYPE_INT32, "")],
        "Event": [
            ("wall_time", 1, kinds.TYPE_DOUBLE, ""),
            ("step", 2, kinds.TYPE_INT64, ""),
            ("file_version", 3, kinds.TYPE_STRING, ""),
            ("summary", 5, kinds.TYPE_MESSAGE, ".test.Summary"),
            ("session_log", 7, kinds.TYPE_MESSAGE, ".test.SessionLog"),
        ],
    }
    for message, members in fields.items():
        made = file.message_type.add(name=message)
        for name, number, kind, of in members:
            label = kinds.LABEL_REPEATED if name == "value" else kinds.LABEL_OPTIONAL
            made.field.add(name=name, number=number, type=kind, type_name=of or None, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Event"))


def events(path: Path) -> list:  # type: ignore[type-arg]
    """Every record of a file, its checksums verified."""
    data, found, kind = path.read_bytes(), [], event_class()
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        assert record(data[12 : 12 + size]) == data[: size + 16]
        found.append(kind.FromString(data[12 : 12 + size]))
        data = data[size + 16 :]
    return found


def scalars(path: Path) -> list[tuple[int, dict[str, float]]]:
    return [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events(path) if e.summary.value]


def test_parser_reads_what_was_written(tmp_path: Path) -> None:
    file = EventFile(tmp_path, 0)
    file.write(1, {"train/loss": 0.5, "phase": "train", "bad": float("nan")})
    file.write(300, {"train/loss": -0.25, "tokens": 7, "huge": 1e300})
    first = events(file.path)[0]
    assert first.file_version == "brain.Event:2" and first.wall_time > 1.6e9
    huge = struct.unpack("<f", struct.pack("<f", 3.4e38))[0]
    assert scalars(file.path) == [(1, {"train/loss": 0.5}), (300, {"train/loss": -0.25, "tokens": 7.0, "huge": huge})]


def test_metrics_are_written_twice_and_a_resumed_task_starts_behind_its_checkpoint(tmp_path: Path) -> None:
    """Killed behind step 3, resumed from step 2: TensorBoard forgets steps from 3 on, which come again."""
    log = MetricsLog(tmp_path / "metrics.jsonl", active=True)
    log.keep_until(0)
    log.write("reference", 5, 9)
    for step in (1, 2, 3):
        log.write(PHASE, step, 4, {"loss": 1.0 / step})
    again = MetricsLog(tmp_path / "metrics.jsonl", active=True)
    again.keep_until(2)
    again.write(PHASE, 3, 4, {"loss": 0.25})
    files = sorted((tmp_path / "tensorboard").iterdir())
    assert [[step for step, _ in scalars(file)] for file in files] == [[1, 2, 3], [3]]
    assert scalars(files[1]) == [(3, {"train/loss": 0.25})]
    (started,) = [event for event in events(files[1]) if event.HasField("session_log")]
    assert (started.step, started.session_log.status) == (3, 1)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    silent = MetricsLog(tmp_path / "other" / "metrics.jsonl", active=False)
    silent.write(PHASE, 1, 1, {"loss": 1.0})
    assert not (tmp_path / "other").exists()
