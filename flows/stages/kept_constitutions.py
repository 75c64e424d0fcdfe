"""Copies of the constitutions that a run was labelled with, by hash, so that a later edit knows what it edits.

The run's folder holds them as `constitutions/<hash>.yaml`, word for word. Left out: runs that were labelled before a
copy was kept, unless the file still is what it was.
"""

from __future__ import annotations

from pathlib import Path

from constitutions.hashes import constitution_hash
from constitutions.load import load_constitution
from flows.context import RunContext
from ratify.errors import InputError
from ratify.files import write_text

FOLDER = "constitutions"
SHORT = 12


def keep_constitution(context: RunContext, path: Path | None = None) -> Path:
    """Keep a copy of the configured constitution, or of another file; the copy's path. Call it under the run's lock."""
    source = path or context.config.constitution
    kept = kept_as(context, constitution_hash(load_constitution(source)))
    if not kept.exists():
        write_text(kept, source.read_text(encoding="utf-8"))
    return kept


def kept_as(context: RunContext, whole_hash: str) -> Path:
    """Where the copy of a constitution lies, if there is one."""
    return context.run.path / FOLDER / f"{whole_hash[:SHORT]}.yaml"


def labelled_with(context: RunContext) -> Path:
    """The constitution that the run's labels follow.

    Raises:
        StoreError: the run has no labels yet.
        InputError: no copy of it was kept, and the configured file is another one by now.
    """
    whole_hash = str(context.manifest("label").lineage["constitution"])
    kept = kept_as(context, whole_hash)
    if not kept.exists() and constitution_hash(load_constitution(context.config.constitution)) == whole_hash:
        keep_constitution(context)
    if not kept.exists():
        raise InputError(
            f"{context.run.path} was labelled with constitution {whole_hash[:SHORT]}, of which no copy is kept; put "
            f"the file as it was at {kept}, or run the round again, which keeps one"
        )
    return kept
