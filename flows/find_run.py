"""Finds a run by what a person calls it: a folder, or a name under `runs/`."""

from __future__ import annotations

from pathlib import Path

from ratify.errors import ConfigError


def run_folder(name: str) -> Path:
    """A run by path or by name under `runs/`.

    Raises:
        ConfigError: there is none; with those that are.
    """
    for folder in (Path(name), Path("runs") / name):
        if folder.is_dir() and any(folder.glob("round-*")):
            return folder
    known = sorted(path.parent.name for path in Path("runs").glob("*/round-000"))
    raise ConfigError(f"there is no run {name!r}; runs here: {', '.join(known) or 'none'}")
