"""What a node of a Ray cluster does for labelling: judge one part, tell how far it is, answer in JSON.

It is handed one string and hands back one string; no object of ours is ever pickled. Keys are no part of it: a worker
has the environment of the `ray start` that began its node. Left out: who hands parts out and again (`ray_parts.py`).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.context import RunContext
from flows.stages.label import LABEL
from flows.stages.label_part import judge_part
from ratify.canonical import digest, file_digest
from ratify.config import Config
from ratify.errors import InputError, RatifyError
from ratify.progress import Progress
from ratify.safety import switch_telemetry_off
from ratify.types import Record

NAMESPACE = "ratify"
"""Names of actors are told apart by it."""
TELL_EVERY_S = 1.0


class Order(Record):
    """One part, for whichever node takes it."""

    config: str
    """The resolved configuration as JSON, which cannot hold a key."""
    folder: str
    """Where relative paths begin."""
    inputs: str
    """`inputs_of` on the machine that hands out the parts."""
    board: str
    """Name of the actor that is told how far a part is."""
    round_number: int
    part: int
    parts: int


class Answer(Record):
    """What became of a part."""

    part: int
    node: str
    """Ray's id of the node."""
    host: str
    needed: int = 0
    reused: int = 0
    failed: int = 0
    seconds: float = 0.0
    kind: str = ""
    """Class of the fault that stopped it; empty where it is done."""
    message: str = ""


class Board:
    """An actor that is told how far the parts are."""

    def __init__(self) -> None:
        self._figures: dict[int, tuple[int, int]] = {}

    def tell(self, part: int, done: int, total: int) -> None:
        """A part has `done` of `total` questions behind it."""
        self._figures[part] = done, total

    def figures(self) -> list[tuple[int, int]]:
        """Done and total of every part that has begun."""
        return list(self._figures.values())


def inputs_of(context: RunContext) -> str:
    """Hash of what questions and labels depend on: candidates, constitution, judge, settings, prompts."""
    prompts = context.config.prompts.train
    return digest({"label": LABEL.lineage(context), "prompts": file_digest(prompts) if prompts.is_file() else None})


def judge_here(order: str) -> str:
    """Judge the part that an `Order` names; an `Answer`. Both are JSON. A fault that a person can mend is an answer."""
    import ray

    switch_telemetry_off()
    told, started = Order.model_validate_json(order), time.monotonic()
    node = Answer(part=told.part, node=ray.get_runtime_context().get_node_id(), host=socket.gethostname())
    try:
        counts = judged(told)
    except RatifyError as error:
        return node.model_copy(update={"kind": type(error).__name__, "message": str(error)}).model_dump_json()
    return node.model_copy(update=counts | {"seconds": time.monotonic() - started}).model_dump_json()


def judged(told: Order) -> dict[str, Any]:
    """Judge a part; counts for its `Answer`.

    Raises:
        InputError: this node has other files than the machine that began the parts.
        RatifyError: as `judge_part`.
    """
    if not Path(told.folder).is_dir():
        raise InputError(f"there is no folder {told.folder}; checkout and run lie at the same path on every node")
    os.chdir(told.folder)
    context = RunContext(Config.model_validate_json(told.config), told.round_number, lambda _title: _telling(told))
    if inputs_of(context) != told.inputs:
        raise InputError(
            f"the candidates, the constitution or the judge's templates under {told.folder} are not those of the "
            "machine that began the parts; bring both to the same files (`ratify pull`)"
        )
    statistics = judge_part(context, told.part, told.parts).statistics
    return {"needed": statistics.needed, "reused": statistics.reused, "failed": statistics.failed}


@contextmanager
def _telling(told: Order) -> Iterator[Progress]:
    import ray

    yield _Teller(ray.get_actor(told.board, namespace=NAMESPACE), told.part)


class _Teller:
    """Progress that goes to the board, once in a while and without waiting."""

    def __init__(self, board: Any, part: int) -> None:
        self._board, self._part, self._next_s = board, part, 0.0

    def update(self, done: int, total: int, _note: str = "") -> None:
        if (now := time.monotonic()) >= self._next_s or done == total:
            self._board.tell.remote(self._part, done, total)
            self._next_s = now + TELL_EVERY_S

    def say(self, line: str) -> None:
        """Nobody listens."""
