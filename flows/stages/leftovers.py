"""What in a folder of runs is proven to be unneeded: half-written files of dead processes, old logs of finished stages,
caches that are computed again from the verdict store, and kept policies that no event names.

Nothing else is ever removed: a shard, a model or a report belongs to a manifest, and whether anybody still wants a
whole run is not for a schedule to say. A run that somebody works on is left alone; what is found is found under its
lock.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flows.stages.judge_columns import COLUMNS
from ratify.errors import StoreError
from ratify.processes import start_time
from ratify.promotions import POLICIES, Promotions
from ratify.run_store import MANIFEST, RunStore

DAY_S = 86_400.0
_TEMPORARY = re.compile(r"^\..+\.(\d+)\.tmp$")


class Leftover(NamedTuple):
    """One thing that may go."""

    path: Path
    size: int
    """Bytes."""
    why: str


def clean(runs: Path, keep_days: float, *, remove: bool) -> tuple[list[Leftover], list[str]]:
    """What may go, and what was passed over; with `remove` it is gone afterwards."""
    found: list[Leftover] = []
    passed: list[str] = []
    for folder in sorted(path.parent for path in runs.glob("*/round-000")):
        try:
            with RunStore(folder).lock():
                here = list(leftovers(folder, keep_days))
                for each in here if remove else ():
                    _remove(each.path)
                found += here
        except StoreError as error:
            passed.append(str(error))
    return found, passed


def leftovers(run: Path, keep_days: float) -> Iterator[Leftover]:
    """What may go from one run. The caller holds its lock."""
    before = time.time() - keep_days * DAY_S
    for path in sorted(run.rglob("*")):
        if path.is_symlink():
            continue
        match = _TEMPORARY.match(path.name)
        if match and start_time(int(match[1])) is None and _older(path, time.time() - DAY_S):
            yield Leftover(path, size_of(path), f"process {match[1]}, which was writing it, is gone")
        elif path.is_file() and _is_log(path) and _older(path, before) and (path.parent / MANIFEST).exists():
            yield Leftover(path, size_of(path), "log of a finished stage")
    yield from _caches(run, before)
    yield from _unnamed_policies(run)


def _caches(run: Path, before: float) -> Iterator[Leftover]:
    for folder in sorted(run.glob(COLUMNS)):
        if all(_older(path, before) for path in folder.rglob("*")):
            yield Leftover(folder, size_of(folder), "cache, computed again from the verdict store when it is wanted")


def _unnamed_policies(run: Path) -> Iterator[Leftover]:
    """A promotion that was killed after the copy and before the history's line leaves one behind."""
    named = {event.policy.short for event in Promotions(run).events() if event.policy}
    for folder in sorted((run / POLICIES).glob("*")):
        if not folder.name.startswith(".") and folder.name not in named:
            yield Leftover(folder, size_of(folder), "no event of promotions.jsonl names it")


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


def _is_log(path: Path) -> bool:
    return path.suffix == ".log" or path.name == "log.txt"


def _older(path: Path, before: float) -> bool:
    return path.stat().st_mtime < before


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
