"""A run's folder: manifests against files, what nobody names, temporary files, the lock, and flow runs that died."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from flows import flow_runs
from flows.doctor.finding import Finding, fault, note, well
from ratify.errors import StoreError
from ratify.processes import pid_is_alive
from ratify.promotions import HISTORY, POINTER, Promotions, changed
from ratify.run_store import RunStore, StageStore

LOCK = ".lock"
_TEMPORARY = re.compile(r"^\..*\.tmp$")
"""Names of `ratify.files.replacing` (with the writer's process id before the end) and of half-written checkpoints."""
_WRITER = re.compile(r"\.(\d+)\.tmp$")


def check_run(run: Path) -> Iterator[Finding]:
    """Everything about one run's folder but its verdict store."""
    holder, busy = _lock_holder(run)
    yield from _check_lock(run, holder, busy)
    for number in RunStore(run).rounds():
        # A folder with a dot, such as policy.machine-1, holds what a further machine wrote beside a stage.
        for folder in sorted(p for p in (run / f"round-{number:03d}").iterdir() if p.is_dir() and "." not in p.name):
            yield from _check_stage(StageStore(folder, folder.name), run)
    yield from _check_temporary(run, busy)
    yield from _check_flow_runs(run)
    yield from _check_promotions(run)


def _lock_holder(run: Path) -> tuple[int | None, bool]:
    """The process that the lock file names, and whether the kernel says that somebody holds it."""
    path = run / LOCK
    if not path.exists():
        return None, False
    with path.open("r", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = True
        else:
            busy = False
        text = handle.read().strip()
    return int(text) if text.isdigit() else None, busy


def _check_lock(run: Path, holder: int | None, busy: bool) -> Iterator[Finding]:
    if busy:
        yield note(f"process {holder} is working on {run}", "what it has not finished yet is no fault")
    elif holder is not None:
        yield fault(
            f"process {holder}, which worked on {run}, was killed",
            "`ratify doctor --repair` forgets it; the command that it ran goes on from its files",
            lambda: _forget(run / LOCK),
        )
    else:
        yield well(f"nobody holds {run}")


def _forget(lock: Path) -> None:
    """Empty a lock file that nobody holds; the file stays, because another process may be about to lock it."""
    with lock.open("r+", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        handle.truncate(0)


def _check_stage(stage: StageStore, run: Path) -> Iterator[Finding]:
    name = stage.path.relative_to(run)
    try:
        manifest = stage.manifest()
    except StoreError as error:
        yield fault(f"{name}: its manifest cannot be read", str(error))
        return
    if manifest is None:
        yield note(f"{name} has begun and is not finished", "the command that began it goes on from its files")
        return
    wrong = stage.verify()
    for file in wrong:
        state = "differs from its manifest" if (stage.path / file).exists() else "is missing"
        yield fault(
            f"{name}/{file} {state}",
            f"bring it back from a copy (`ratify pull`), or delete {stage.path} and run again, which makes it anew",
        )
    unnamed = sorted(set(stage.artifact_names()) - set(manifest.files))
    for file in unnamed:
        yield note(
            f"no manifest names {name}/{file}, so nothing reads it", f"look at it and delete {stage.path / file}"
        )
    if not wrong:
        yield well(f"{name}: {len(manifest.files)} files are what the manifest says")


def _check_temporary(run: Path, busy: bool) -> Iterator[Finding]:
    """Half-written files of processes that are gone; a reader never sees them, they only take space."""
    for path in sorted(run.rglob(".*.tmp")):
        if not _TEMPORARY.match(path.name):
            continue
        writer = _WRITER.search(path.name)
        abandoned = not pid_is_alive(int(writer[1])) if writer else not busy
        if abandoned:
            yield fault(
                f"{path} was left half-written by a process that is gone",
                "`ratify doctor --repair` deletes it",
                lambda path=path: _delete(path),  # type: ignore[misc]
            )
        else:
            yield note(f"{path} is being written")


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_flow_runs(run: Path) -> Iterator[Finding]:
    try:
        gone = flow_runs.dead(run)
    except StoreError as error:
        yield fault(f"{run / flow_runs.FOLDER} has a file that is no record of a flow run", str(error))
        return
    for record in gone:
        yield fault(
            f"flow run {record.name!r} died with process {record.process.pid}, and Prefect may show it as running",
            "`ratify doctor --repair` marks it as Crashed, and so does the next run",
            lambda: _reconcile(run),
        )
    if not gone:
        yield well("no flow run died without telling Prefect")


def _reconcile(run: Path) -> None:
    from flows.prefect_run import with_server

    with with_server():
        found = flow_runs.reconcile(run)
    if found.unknown:
        raise StoreError(
            f"Prefect's server does not know the flow runs {', '.join(found.unknown)}; set PREFECT_API_URL to the one "
            f"that they ran under, or delete {run / flow_runs.FOLDER}"
        )


def _check_promotions(run: Path) -> Iterator[Finding]:
    if not (run / HISTORY).exists():
        return
    promotions = Promotions(run)
    try:
        pointer = promotions.pointer()
    except StoreError as error:
        yield fault(f"{run / HISTORY} cannot be read", str(error))
        return
    if pointer is None:
        return
    path = run / POINTER
    text = pointer.model_dump_json(indent=2) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        remedy = "`ratify doctor --repair` writes it again from the history"
        yield fault(f"{path} does not say what the history says", remedy, promotions.repair)
    if changed(pointer.policy):
        yield fault(
            f"the promoted policy {pointer.policy.model} is gone or has other weights than were promoted",
            "bring it back from a copy, or `ratify rollback`",
        )
    else:
        yield well(f"the promoted policy {pointer.policy.short} has the weights that were promoted")
