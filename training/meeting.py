"""The meeting of all processes before a training: each says what it is about to train, and all must say the same.

Machines have data, models, configuration and checkout of their own. A difference would not fail but teach something
that nobody asked for, and a machine that stops alone would let the others wait for it. So everybody hears every fault
and every difference, and all stop with the same sentence. Left out: what is on disk of an earlier start (`first`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from ratify.canonical import digest
from ratify.errors import InputError, RatifyError
from ratify.lineage import code_commit
from training.devices import devices_of
from training.spec import KNOBS, TrainSpec, decisive

GROUP_RANK = "GROUP_RANK"
"""torch's launcher tells its workers which machine they are on."""
_OWN = frozenset({"processes", "accelerate_config", "threads", "time_limit_s", "enabled"})
"""Settings in which machines may differ."""


class Start(NamedTuple):
    """What one process is about to do."""

    machine: int
    settings: dict[str, Any]
    """Everything in which processes must not differ, by name."""
    fault: str = ""
    """Why it cannot start."""


def machine() -> int:
    """Which machine this process runs on, from 0."""
    return int(os.environ.get(GROUP_RANK, "0"))


def meet(spec: TrainSpec) -> str:
    """The task's fingerprint, once every process has the same; all of them call this.

    Raises:
        InputError: a process cannot start or is about to train something else; the same in every process.
    """
    PartialState(cpu=not torch.cuda.is_available())  # joins the process group; the engine finds it
    mine, mark = _start(spec)
    check_starts(gather_object([mine]))
    return mark


def check_starts(starts: Sequence[Start]) -> None:
    """Compare what processes are about to do with the first one.

    Raises:
        InputError: one has a fault, or differs.
    """
    first, several = starts[0], starts[-1].machine > 0
    for start in starts:
        if start.fault:
            raise InputError(f"machine {start.machine}: {start.fault}" if several else start.fault)
    for start in starts:
        names = sorted(first.settings.keys() | start.settings.keys())
        differing = [_difference(name, first.settings.get(name), start.settings.get(name)) for name in names]
        if found := [each for each in differing if each]:
            raise InputError(
                f"machine {start.machine} is about to train something else than machine {first.machine}: "
                f"{', '.join(found)}; give both the same data, model, configuration and checkout"
            )


def _start(spec: TrainSpec) -> tuple[Start, str]:
    """What this process says, and its fingerprint."""
    try:
        settings = decisive(spec)
        devices = devices_of(spec.section)
    except RatifyError as error:
        return Start(machine(), {}, str(error)), ""
    mark, section = digest(settings), spec.section.model_dump(mode="json")
    knobs = {name: section[name] for name in KNOBS - _OWN if name in section}
    named = {f"{spec.task}.{name}": value for name, value in (settings.pop("section") | knobs).items()}
    code = {"checkout": code_commit(), "torch": torch.__version__}
    held = {"sharded": devices.sharded, "zero_stage": devices.zero_stage}
    return Start(machine(), {**settings, **named, **code, **held}), mark


def _difference(name: str, ours: object, theirs: object) -> str:
    """A differing setting as words; empty where both are the same."""
    if ours == theirs:
        return ""
    short = all(not isinstance(value, dict | list) for value in (ours, theirs))
    return f"{name} ({theirs} instead of {ours})" if short else name
