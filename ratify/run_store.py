"""The run directory, which is the truth about a run: `runs/<run>/round-NNN/<stage>/`.

A stage writes shards (whole or absent) and its manifest last, so a manifest means that the stage is complete. The
manifest holds the hash of every file, the hash of what went in, and the lineage; a stage whose inputs still hash the
same is not run again. One process at a time may work on a run: an operating-system lock, which the kernel drops when
its holder dies.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ratify.canonical import JsonValue, digest, file_digest
from ratify.errors import StoreError
from ratify.files import write_json, write_text
from ratify.lineage import code_commit, now, versions

MANIFEST = "manifest.json"

_HELD: set[Path] = set()
"""Runs that this process has locked, so that a stage inside a locked round may ask again."""


class Manifest(BaseModel):
    """What a finished stage leaves behind; written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    inputs: str
    """Hash of everything the stage's result depends on."""
    lineage: dict[str, Any]
    """The parts that were hashed: configuration, seeds, hashes of constitution, model and earlier stages."""
    files: dict[str, str]
    """SHA-256 of each file, by path relative to the stage."""
    metrics: dict[str, Any]
    """The stage's figures by metric key `stage/thing/stat`."""
    seconds: float
    finished: str
    code: str
    packages: dict[str, str]


class StageStore:
    """One stage's folder in one round."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path = path
        self.stage = stage

    def manifest(self) -> Manifest | None:
        """The manifest if the stage is complete, else None."""
        path = self.path / MANIFEST
        if not path.exists():
            return None
        try:
            return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise StoreError(f"{path} is not a manifest of this version; delete the folder {self.path}") from error

    def complete_for(self, lineage: JsonValue) -> Manifest | None:
        """The manifest, if the stage finished with exactly these inputs and its files are still there."""
        manifest = self.manifest()
        if manifest is None or manifest.inputs != digest(lineage):
            return None
        return manifest if all((self.path / name).exists() for name in manifest.files) else None

    def begin(self, lineage: JsonValue) -> None:
        """Open the folder for work on these inputs; shards of other inputs are removed first."""
        marker = self.path / "inputs.json"
        inputs = {"inputs": digest(lineage), "lineage": lineage}
        if marker.exists() and json.loads(marker.read_text(encoding="utf-8"))["inputs"] == inputs["inputs"]:
            (self.path / MANIFEST).unlink(missing_ok=True)
            return
        _remove_tree(self.path)
        write_json(marker, inputs)

    def finish(self, lineage: dict[str, Any], metrics: dict[str, Any], seconds: float) -> Manifest:
        """Hash the files and write the manifest."""
        names = self.artifact_names()
        manifest = Manifest(
            stage=self.stage,
            inputs=digest(lineage),
            lineage=lineage,
            files={name: file_digest(self.path / name) for name in names},
            metrics=metrics,
            seconds=round(seconds, 3),
            finished=now(),
            code=code_commit(),
            packages=versions(),
        )
        write_text(self.path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        return manifest

    def verify(self) -> list[str]:
        """Files whose bytes differ from the manifest, for `ratify status`."""
        manifest = self.manifest()
        files = manifest.files if manifest else {}
        return [name for name, sha in files.items() if not _same(self.path / name, sha)]

    def artifact_names(self) -> list[str]:
        """The files that a manifest written now would name: not logs, not hidden ones."""
        return sorted(str(path.relative_to(self.path)) for path in self._artifacts())

    def _artifacts(self) -> Iterator[Path]:
        for path in self.path.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(self.path).parts)
            if path.is_file() and not hidden and path.suffix != ".log" and path.name not in (MANIFEST, "log.txt"):
                yield path


class RunStore:
    """A run's folder: its lock, its rounds and their stages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str, round_number: int = 0) -> StageStore:
        """The folder of a stage in a round."""
        return StageStore(self.path / f"round-{round_number:03d}" / name, name)

    def rounds(self) -> list[int]:
        """The numbers of the rounds that exist, ascending."""
        return sorted(int(path.name.removeprefix("round-")) for path in self.path.glob("round-[0-9][0-9][0-9]"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; a second process gets one sentence and leaves."""
        held = self.path.resolve()
        if held in _HELD:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"run folder {self.path} cannot be used: {error.strerror}") from error
        with handle:
            _acquire(handle.fileno(), self.path)
            handle.truncate(0)
            handle.write(f"{os.getpid()}\n")
            handle.flush()
            _HELD.add(held)
            try:
                yield
            finally:
                # A number that is left says that its process was killed.
                handle.truncate(0)
                _HELD.discard(held)


def _acquire(descriptor: int, run: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = (run / ".lock").read_text(encoding="utf-8").strip() or "unknown"
        raise StoreError(
            f"run {run} is in use by process {holder}; wait for it, stop it, or give this run its own run.name"
        ) from None


def _same(path: Path, sha: str) -> bool:
    return path.exists() and file_digest(path) == sha


def _remove_tree(folder: Path) -> None:
    """Empty a stage's folder of shards that belong to other inputs; the manifest goes first."""
    if not folder.exists():
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
