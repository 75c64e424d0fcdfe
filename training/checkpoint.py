"""Checkpoints from which training goes on bit for bit: weights, optimiser, generators, step and objective's state.

Everything is safetensors or JSON, so nothing in a checkpoint can run code. A checkpoint is written to a temporary
folder, flushed, renamed; only then is the one before it removed, so a full disk or a kill costs the new one at most.
The first of several processes writes and reads it for all, so other machines need no share of its disk.
Of sharded training (`sharding`) it holds whole tensors. Left out: writing in shards.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ratify.canonical import JsonValue
from ratify.errors import StoreError, TrainingError
from ratify.files import disk_fault, flush
from training.first import Held, from_first
from training.sharding import cut_like, full

_PREFIX = "step-"
_WEIGHTS, _OPTIMISER, _GENERATORS = "weights", "optimiser", "generators"
"""The files of a checkpoint, beside state.json."""


class Cursor(NamedTuple):
    """How far training had come."""

    step: int
    """Optimiser steps done."""
    objective: dict[str, Any]
    """What the objective carries from step to step."""
    stopped: str | None
    """Why training ended before its last step, if it did."""


def save_checkpoint(
    folder: Path, cursor: Cursor, model: nn.Module, moments: dict[str, Tensor], fingerprint: str
) -> None:
    """Write `folder/step-NNNNNNNN` whole, then remove older ones; `moments` are `optimiser_tensors`.

    Raises:
        StoreError: the disk is full or not writable; the previous checkpoint is still there.
    """
    final = folder / f"{_PREFIX}{cursor.step:08d}"
    temporary = folder / f".{final.name}.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write(temporary, cursor, model, moments, fingerprint)
        for file in temporary.iterdir():
            flush(file)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        flush(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(disk_fault(final, error)) from error
    except Exception as error:
        # safetensors reports a full disk as an error of its own.
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(f"checkpoint {final} was not written ({error}); the previous one is kept") from error
    for older in _checkpoints(folder)[:-1]:
        shutil.rmtree(older)


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, fingerprint: str
) -> Cursor | None:
    """Restore the newest checkpoint into model, optimiser and random generators; None when there is none.

    Of several processes all call it; the first one's disk is what counts.

    Raises:
        TrainingError: the checkpoint was made by another model, dataset or configuration.
    """
    found = from_first(lambda: _read(folder, fingerprint))
    if found is None:
        return None
    copy_weights(model, found.under(_WEIGHTS))
    _load_optimiser(optimiser, found.under(_OPTIMISER))
    _load_generators(found.under(_GENERATORS))
    return Cursor(found.note["step"], found.note["objective"], found.note["stopped"])


def _read(folder: Path, fingerprint: str) -> Held | None:
    found = _checkpoints(folder)
    if not found:
        return None
    newest = found[-1]
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    if state["fingerprint"] != fingerprint:
        raise TrainingError(
            f"checkpoint {newest} belongs to another model, dataset, seed or configuration; "
            "remove it or train into another folder"
        )
    files = {part: load_file(newest / f"{part}.safetensors") for part in (_WEIGHTS, _OPTIMISER, _GENERATORS)}
    return Held(state, {f"{part}/{name}": tensor for part, held in files.items() for name, tensor in held.items()})


def remove_checkpoints(folder: Path) -> None:
    """Remove all of them, once the result is complete."""
    shutil.rmtree(folder, ignore_errors=True)


def copy_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put weights by name into a model's own tensors."""
    with torch.no_grad():
        for name, tensor in model_tensors(model).items():
            tensor.copy_(weights[name])


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"))


def _write(folder: Path, cursor: Cursor, model: nn.Module, moments: dict[str, Tensor], fingerprint: str) -> None:
    weights = {name: tensor.detach().contiguous() for name, tensor in model_tensors(model).items()}
    for part, tensors in ((_WEIGHTS, weights), (_OPTIMISER, moments), (_GENERATORS, _generators())):
        save_file(tensors, folder / f"{part}.safetensors")
    state: JsonValue = {
        "step": cursor.step,
        "objective": cursor.objective,
        "stopped": cursor.stopped,
        "fingerprint": fingerprint,
    }
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and persistent buffers by name; tied ones once, which safetensors wants.

    Frozen ones are those of the model that training started from, which the fingerprint names.
    """
    persistent = model.state_dict().keys()
    buffers = {name: tensor for name, tensor in model.named_buffers() if name in persistent}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {**trained, **buffers}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Steps and moments of each parameter by number and name; whole, so where they are sharded every process calls."""
    states: dict[int, dict[str, Tensor]] = optimiser.state_dict()["state"]
    named = {f"{index}.{name}": value for index, state in states.items() for name, value in state.items()}
    return {name: full(value).contiguous() for name, value in named.items()}


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        states.setdefault(int(index), {})[name] = cut_like(tensor, parameters[int(index)])
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def _generators() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _load_generators(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if (state := states.get(f"cuda.{index}")) is not None:
                torch.cuda.set_rng_state(state, index)
