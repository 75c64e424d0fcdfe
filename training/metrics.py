"""metrics.jsonl: one JSON line for each step, flushed at once so that the parent can show progress.

A resumed run cuts the lines behind its checkpoint, so every step stands there once. The figures of training steps go to
`tensorboard/` beside it as well. Left out: plots.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ratify.files import write_text
from training.tensorboard import EventFile

Metrics = dict[str, float | int | str]

PHASE = "train"
"""Lines of training steps; other phases (`reference`, `score`) only show progress."""


class MetricsLog:
    """Appends lines; silent in every process but the main one."""

    def __init__(self, path: Path, *, active: bool) -> None:
        self.path = path
        self.active = active
        self._events: EventFile | None = None
        self._first_step = 0

    def keep_until(self, step: int) -> None:
        """Drop what was logged behind `step`, half-written lines, and the other phases' progress."""
        if not self.active:
            return
        kept = [m for m in read_metrics(self.path) if m.get("phase") == PHASE and int(m["step"]) <= step]
        self._events, self._first_step = None, step + 1
        write_text(self.path, "".join(json.dumps(m) + "\n" for m in kept))

    def recent_means(self, names: Sequence[str], window: int) -> dict[str, float]:
        """Means of the last `window` training steps as `train/<name>`, from the file: resumed runs have them too."""
        lines = [m for m in read_metrics(self.path) if m.get("phase") == PHASE and "loss" in m][-window:]
        return {f"train/{name}": sum(float(m[name]) for m in lines) / len(lines) for name in names if lines}

    def write(self, phase: str, step: int, steps: int, values: Mapping[str, float | int | str] | None = None) -> None:
        """Append one line."""
        if not self.active:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"phase": phase, "step": step, "steps": steps, **(values or {})}) + "\n")
        if phase == PHASE and values:
            self._events = self._events or EventFile(self.path.parent / "tensorboard", self._first_step)
            self._events.write(step, {f"{phase}/{name}": value for name, value in values.items()})


def read_metrics(path: Path) -> list[Metrics]:
    """Every whole line of a metrics file; none when there is no file."""
    if not path.is_file():
        return []
    found: list[Metrics] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
