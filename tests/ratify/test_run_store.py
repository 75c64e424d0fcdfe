import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from ratify.errors import StoreError
from ratify.files import replacing, write_text
from ratify.run_store import MANIFEST, RunStore

LINEAGE = {"seed": 1}


def finished_stage(tmp_path: Path):
    stage = RunStore(tmp_path / "run").stage("label")
    stage.begin(LINEAGE)
    write_text(stage.path / "shard-0.jsonl", "one\n")
    stage.finish(LINEAGE, {"label/pairs/count": 1}, 0.5)
    return stage


def test_a_manifest_means_complete_for_its_inputs_only(tmp_path: Path) -> None:
    stage = finished_stage(tmp_path)
    manifest = stage.complete_for(LINEAGE)
    assert manifest is not None and manifest.metrics == {"label/pairs/count": 1}
    assert "shard-0.jsonl" in manifest.files
    assert stage.complete_for({"seed": 2}) is None


def test_a_missing_file_makes_the_stage_incomplete(tmp_path: Path) -> None:
    stage = finished_stage(tmp_path)
    (stage.path / "shard-0.jsonl").unlink()
    assert stage.complete_for(LINEAGE) is None


def test_verify_names_changed_files(tmp_path: Path) -> None:
    stage = finished_stage(tmp_path)
    assert stage.verify() == []
    (stage.path / "shard-0.jsonl").write_text("two\n")
    assert stage.verify() == ["shard-0.jsonl"]


def test_shards_survive_for_the_same_inputs_and_go_for_others(tmp_path: Path) -> None:
    stage = finished_stage(tmp_path)
    (stage.path / MANIFEST).unlink()
    stage.begin(LINEAGE)
    assert (stage.path / "shard-0.jsonl").exists()
    stage.begin({"seed": 2})
    assert not (stage.path / "shard-0.jsonl").exists()


def hold(path: Path, ready: object) -> None:
    with RunStore(path).lock():
        ready.set()
        time.sleep(60)


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "run", ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(StoreError, match=f"in use by process {holder.pid}"), RunStore(tmp_path / "run").lock():
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with RunStore(tmp_path / "run").lock():
        pass


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(StoreError, match="the disk is full"), replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
