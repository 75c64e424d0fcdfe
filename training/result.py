"""What a task leaves behind: result.json, written last, so that its existence means complete. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field

from ratify.errors import StoreError, TrainingError
from ratify.files import write_text
from ratify.sections import Section

RESULT_FILE = "result.json"


class TrainResult(Section):
    """The outcome of a training or scoring task."""

    task: str
    fingerprint: str
    """Hash of settings, data and models; a folder is not reused for another."""
    model: str | None = None
    """Folder of the trained model."""
    members: tuple[str, ...] = Field(default=(), exclude_if=lambda members: not members)
    """Folders beside `model` of an ensemble's other members."""
    scores: str | None = None
    """File with the scores."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Figures by name; counts are whole numbers."""
    layout: str = ""
    """`tree` or `padded`, as it was used."""
    stopped_early: str | None = None
    """Why training ended before its last step."""


def write_result(out: Path, result: TrainResult) -> None:
    """Write result.json; everything else must be on disk by now."""
    write_text(out / RESULT_FILE, result.model_dump_json(indent=2) + "\n")


def read_result(out: Path) -> TrainResult | None:
    """The result of a finished task, None while there is none.

    Raises:
        StoreError: the file cannot be read.
    """
    path = out / RESULT_FILE
    if not path.is_file():
        return None
    try:
        return TrainResult.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it to run the task again") from None


def ensemble_of(model: str) -> tuple[str, ...]:
    """A reward model's folder and those of the ensemble's other members, by the result beside it.

    Raises:
        StoreError: the result cannot be read.
    """
    folder = Path(model)
    result = read_result(folder.parent) if folder.is_dir() and folder.name == "model" else None
    others = result.members if result else ()
    return (model, *(str(folder.with_name(name)) for name in others))


def check_same(result: TrainResult, fingerprint: str, out: Path) -> TrainResult:
    """Hand back a finished result if it is the one that is asked for.

    Raises:
        TrainingError: the folder holds the result of another task.
    """
    if result.fingerprint != fingerprint:
        raise TrainingError(
            f"{out} holds the finished result of another model, dataset, seed or configuration; "
            "remove it or choose another folder"
        )
    return result
