"""Finished stages to and from any place that fsspec knows: a folder, another machine's disk, S3, GCS.

`push` copies what the manifests name, each file checked against its hash, a stage's manifest last; `pull` copies back,
checks every byte before the file gets its name, and refuses names that would leave the run's folder. A transfer that
was cut off is begun again and copies only what is missing. Left out: stages that are not finished, and the verdict
store, which is a database: where several machines share it, it is PostgreSQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from flows.context import CONFIG
from ratify.errors import StoreError
from ratify.files import replacing
from ratify.progress import Progress, Silent
from ratify.run_store import MANIFEST, Manifest, RunStore, StageStore

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PIECE = 1 << 22
LOOSE = (CONFIG, "promotions.jsonl", "promoted.json")
"""Files of the run itself that go with its stages."""


class Transferred(NamedTuple):
    """What was copied."""

    stages: int
    files: int
    bytes: int
    skipped: int
    """Files that were there already, whole."""


class Place:
    """A folder at an fsspec URL."""

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self.files: AbstractFileSystem
            self.files, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise StoreError(f"{url} cannot be used: {error}") from error
        self.url = url

    def at(self, name: str) -> str:
        """The path of a file in it."""
        return f"{self.root.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes | None:
        """A small file; None when there is none."""
        try:
            found: bytes = self.files.cat_file(self.at(name))
        except FileNotFoundError:
            return None
        return found


def push(run: Path, url: str, progress: Progress | None = None) -> Transferred:
    """Copy a run's finished stages to `url`.

    Raises:
        StoreError: a file is not what its manifest says, or the place cannot be written.
    """
    place, total = Place(url), Transferred(0, 0, 0, 0)
    with _one_sentence(url):
        for name, stage in _finished(run):
            total = _push_stage(place, name, stage, total, progress or Silent())
        for loose in LOOSE:
            if (run / loose).exists():
                _write(place, loose, (run / loose).read_bytes())
    return total


def pull(url: str, run: Path, progress: Progress | None = None) -> Transferred:
    """Copy the stages at `url` into a run's folder, under the run's lock.

    Raises:
        StoreError: there is no run, a hash is wrong, a name would leave the folder, or the disk is full.
    """
    place, total = Place(url), Transferred(0, 0, 0, 0)
    with _one_sentence(url):
        manifests = sorted(place.files.glob(place.at(f"round-[0-9][0-9][0-9]/*/{MANIFEST}")))
    if not manifests:
        raise StoreError(f"there is no run at {url}: no round-NNN/STAGE/{MANIFEST}")
    with RunStore(run).lock(), _one_sentence(url):
        for path in manifests:
            round_name, stage = PurePosixPath(path).parts[-3:-1]
            total = _pull_stage(place, f"{round_name}/{stage}", run, total, progress or Silent())
        for loose in LOOSE:
            content = place.read(loose)
            if content is not None:
                with replacing(run / loose) as temporary:
                    temporary.write_bytes(content)
    return total


def _finished(run: Path) -> Iterator[tuple[str, StageStore]]:
    for path in sorted(run.glob(f"round-[0-9][0-9][0-9]/*/{MANIFEST}")):
        yield str(path.parent.relative_to(run)), StageStore(path.parent, path.parent.name)


def _push_stage(place: Place, name: str, stage: StageStore, total: Transferred, progress: Progress) -> Transferred:
    manifest = stage.manifest()
    assert manifest is not None
    if wrong := stage.verify():
        raise StoreError(f"{stage.path / wrong[0]} is not what its manifest says, so nothing of {name} was pushed")
    there = place.read(f"{name}/{MANIFEST}")
    old = _parsed(there, name).files if there else {}
    if there:
        # While files change, the manifest must not say that they are whole.
        place.files.rm_file(place.at(f"{name}/{MANIFEST}"))
    for number, (file, sha) in enumerate(manifest.files.items()):
        progress.update(number, len(manifest.files), name)
        target = place.at(f"{name}/{file}")
        if old.get(file) == sha and place.files.exists(target) and _remote_digest(place, target) == sha:
            total = total._replace(skipped=total.skipped + 1)
            continue
        place.files.makedirs(target.rpartition("/")[0], exist_ok=True)
        place.files.put_file(str(stage.path / file), target)
        if _remote_digest(place, target) != sha:
            raise StoreError(f"{place.url}/{name}/{file} arrived with other bytes than were sent; push again")
        total = total._replace(files=total.files + 1, bytes=total.bytes + (stage.path / file).stat().st_size)
    for extra in ("inputs.json", MANIFEST):
        if (stage.path / extra).exists():
            _write(place, f"{name}/{extra}", (stage.path / extra).read_bytes())
    return total._replace(stages=total.stages + 1)


def _pull_stage(place: Place, name: str, run: Path, total: Transferred, progress: Progress) -> Transferred:
    content = place.read(f"{name}/{MANIFEST}")
    assert content is not None
    manifest = _parsed(content, name)
    for file in manifest.files:
        _refuse_traversal(file, name)
    stage = StageStore(run / name, manifest.stage)
    mine = stage.manifest()
    if mine is not None and mine.files != manifest.files:
        raise StoreError(
            f"{stage.path} holds another result than {place.url}; pull into another run.name, or delete that folder"
        )
    for number, (file, sha) in enumerate(manifest.files.items()):
        progress.update(number, len(manifest.files), name)
        if (stage.path / file).exists() and _local_digest(stage.path / file) == sha:
            total = total._replace(skipped=total.skipped + 1)
            continue
        with replacing(stage.path / file) as temporary:
            place.files.get_file(place.at(f"{name}/{file}"), str(temporary))
            if _local_digest(temporary) != sha:
                raise StoreError(f"{place.url}/{name}/{file} is not what its manifest says; push it again")
            size = temporary.stat().st_size
        total = total._replace(files=total.files + 1, bytes=total.bytes + size)
    for extra, text in (("inputs.json", place.read(f"{name}/inputs.json")), (MANIFEST, content)):
        if text is not None:
            with replacing(stage.path / extra) as temporary:
                temporary.write_bytes(text)
    return total._replace(stages=total.stages + 1)


def _parsed(content: bytes, name: str) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise StoreError(f"{name}/{MANIFEST} is not a manifest of this version") from error


def _refuse_traversal(file: str, stage: str) -> None:
    parts = PurePosixPath(file).parts
    if not parts or PurePosixPath(file).is_absolute() or ".." in parts or "\\" in file:
        raise StoreError(
            f"the manifest of {stage} names {file!r}, which is outside its folder; nothing of it was pulled"
        )


def _write(place: Place, name: str, content: bytes) -> None:
    target = place.at(name)
    place.files.makedirs(target.rpartition("/")[0], exist_ok=True)
    place.files.pipe_file(target, content)


def _remote_digest(place: Place, path: str) -> str:
    with place.files.open(path, "rb") as handle:
        return _digest(handle)


def _local_digest(path: Path) -> str:
    with path.open("rb") as handle:
        return _digest(handle)


def _digest(handle: Any) -> str:
    found = hashlib.sha256()
    while piece := handle.read(PIECE):
        found.update(piece)
    return found.hexdigest()


class _one_sentence:  # noqa: N801 (used as a function is)
    """Turn a fault of the place into one sentence."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise StoreError(f"{self._url} cannot be used: {error}; what arrived is kept, run it again") from error
