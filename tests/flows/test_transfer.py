"""Pushing a run and pulling it back: the same bytes, hashes checked both ways, no name that leaves the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from flows.stages.transfer import pull, push
from ratify.errors import ConfigError, StoreError
from ratify.run_store import RunStore


@pytest.fixture
def run(labelled_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(labelled_run, tmp_path / "labelled"))


def named(run: Path) -> dict[str, bytes]:
    stages = [RunStore(run).stage(name) for name in ("generate", "label")]
    return {
        f"{stage.stage}/{file}": (stage.path / file).read_bytes()
        for stage in stages
        for file in [*stage.manifest().files, "manifest.json", "inputs.json"]
    }


@pytest.mark.parametrize("url", ["file://{tmp}/there", "memory://ratify/{name}"])
def test_a_run_comes_back_as_it_was_pushed(run: Path, tmp_path: Path, url: str) -> None:
    address = url.format(tmp=tmp_path, name=tmp_path.name)
    first = push(run, address)
    assert first.stages == 2 and first.skipped == 0
    back = pull(address, tmp_path / "back")
    assert named(tmp_path / "back") == named(run) and back.files == first.files
    assert all(RunStore(tmp_path / "back").stage(name).verify() == [] for name in ("generate", "label"))
    assert push(run, address).skipped == first.files
    assert pull(address, tmp_path / "back").skipped == first.files


def test_a_damaged_file_is_not_pushed_and_not_pulled(run: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    push(run, str(there))
    pairs = "round-000/label/pairs.parquet"
    (there / pairs).write_bytes(b"other")
    with pytest.raises(StoreError, match=r"pairs\.parquet is not what its manifest says; push it again"):
        pull(str(there), tmp_path / "back")
    back = tmp_path / "back" / "round-000" / "label"
    assert not (back / "pairs.parquet").exists() and not (back / "manifest.json").exists()
    push(run, str(there))
    pull(str(there), tmp_path / "back")
    assert named(tmp_path / "back") == named(run)
    (run / pairs).write_bytes(b"other")
    with pytest.raises(StoreError, match="nothing of round-000/label was pushed"):
        push(run, str(tmp_path / "elsewhere"))
    assert not (tmp_path / "elsewhere" / "round-000" / "label").exists()


@pytest.mark.parametrize("name", ["../../../escaped", "/escaped", "a/../../escaped", "..\\escaped", ""])
def test_a_manifest_cannot_write_outside_its_folder(run: Path, tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    push(run, str(there))
    path = there / "round-000" / "label" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] |= {name: "0" * 64}
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="outside its folder"):
        pull(str(there), tmp_path / "deep" / "back")
    assert not list(tmp_path.rglob("escaped*")) and not (tmp_path / "deep/back/round-000/label").exists()


def test_another_result_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    push(run, str(tmp_path / "there"))
    shutil.copytree(run, tmp_path / "other")
    path = tmp_path / "other" / "round-000" / "label" / "manifest.json"
    path.write_text(path.read_text().replace('"pairs.parquet"', '"renamed.parquet"'))
    with pytest.raises(StoreError, match="holds another result"):
        pull(str(tmp_path / "there"), tmp_path / "other")


def test_the_commands_say_what_they_copied_and_refuse_odd_names(
    run: Path, tmp_path: Path, ratify: Callable[..., object]
) -> None:
    said = ratify("push", str(run), f"memory://commands/{tmp_path.name}")
    assert said.code == 0 and "2 stages" in said.out
    said = ratify("pull", f"memory://commands/{tmp_path.name}", str(tmp_path / "back"))
    assert said.code == 0 and named(tmp_path / "back") == named(run)
    assert ratify("pull", "memory://commands/nothing", str(tmp_path / "none")).code == StoreError.exit_code
    assert ratify("pull", "memory://commands/nothing", "..").code == ConfigError.exit_code
    assert ratify("pull", "nosuch://place", str(tmp_path / "none")).code == StoreError.exit_code
    fsspec.filesystem("memory").store.clear()
