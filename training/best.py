"""The best weights so far by a figure on held-out prompts, kept beside the checkpoints until the task ends.

One safetensors file, replaced whole, that names its step and its figure. A resumed run measures the steps behind its
checkpoint again and finds the same, so the file may be ahead of the checkpoint. Left out: more than one figure, and the
weights before training, which are no candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ratify.files import replacing
from training.checkpoint import copy_weights, model_tensors
from training.first import Held, from_first

BEST_FILE = "best.safetensors"


class Validation(NamedTuple):
    """What is measured while training, and how often."""

    name: str
    """As in `validation/<name>` of the metrics."""
    every_steps: int
    """Optimiser steps between measurements; the last step is always measured."""
    measure: Callable[[], float]
    """Called in every process, gives the same figure in each."""
    lower_is_better: bool = False

    def due(self, step: int, *, last: bool) -> bool:
        """Whether the weights after `step` are measured; those before training are not."""
        return step > 0 and (last or step % self.every_steps == 0)

    def better(self, value: float, other: float) -> bool:
        """Whether a figure beats another; one that is no number beats none."""
        return value < other if self.lower_is_better else value > other


class Best(NamedTuple):
    """The step whose weights were best, the first of equals, and their figure."""

    step: int
    value: float


def keep_if_better(folder: Path, validation: Validation, found: Best, model: nn.Module, fingerprint: str) -> None:
    """Replace the best weights under `folder` by the model's, of which `found` was measured, if they are better.

    Raises:
        StoreError: the disk is full or not writable; the weights that were best until now are still there.
    """
    held = best_of(folder, fingerprint)
    if math.isnan(found.value) or (held and not validation.better(found.value, held.value)):
        return
    weights = {name: tensor.detach().contiguous() for name, tensor in model_tensors(model).items()}
    note = {"step": str(found.step), "value": repr(found.value), "fingerprint": fingerprint}
    with replacing(folder / BEST_FILE) as temporary:
        save_file(weights, temporary, metadata=note)


def best_of(folder: Path, fingerprint: str) -> Best | None:
    """What is kept under `folder`; None when there is nothing or it belongs to another task."""
    path = folder / BEST_FILE
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        note = file.metadata() or {}
    return Best(int(note["step"]), float(note["value"])) if note.get("fingerprint") == fingerprint else None


def restore_best(folder: Path, model: nn.Module, fingerprint: str) -> Best | None:
    """Put the best weights into the model; of several processes all call it and have those of the first one's disk."""
    held = from_first(lambda: _read(folder, fingerprint))
    if held is None:
        return None
    copy_weights(model, held.tensors)
    return Best(held.note["step"], held.note["value"])


def _read(folder: Path, fingerprint: str) -> Held | None:
    found = best_of(folder, fingerprint)
    return Held(found._asdict(), load_file(folder / BEST_FILE)) if found else None
