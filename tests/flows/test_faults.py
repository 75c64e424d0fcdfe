"""What a run does when its surroundings fail: a full disk, a judge that answers rubbish, and a key that must not
leak."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ratify.lineage import ROOT
from tests.judges.fake_server import FakeServer

SECRET = "sk-planted-7f3a9c"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_afterwards(
    tiny_disk: Path, small_run: list[str], ratify: Callable[..., object]
) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(220_000))
    arguments = [*small_run, f"run.dir={tiny_disk}", "--no-prefect"]
    full = ratify("generate", *arguments)
    assert full.code == 6 and "the disk is full" in full.err and full.err.count("\n") == 1
    ballast.unlink()
    assert ratify("generate", *arguments).code == 0


def test_a_judge_that_answers_rubbish_is_named(small_run: list[str], ratify: Callable[..., object]) -> None:
    assert ratify("generate", *small_run, "--no-prefect").code == 0
    with FakeServer() as server:
        server.always = "html"
        judge = ["judge.kind=model", f"judge.base_url={server.url}", "judge.model=fake-judge"]
        said = ratify("label", *small_run, *judge, "judge.max_retries=0", "--no-prefect")
    assert said.code in (5, 7) and "Traceback" not in said.err
    assert said.err.count("\n") == 1, said.err


def test_a_key_never_reaches_a_file_or_a_message(small_run: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PLANTED_KEY": SECRET}
    arguments = [*small_run, "policy.api_key_env=PLANTED_KEY", "judge.api_key_env=PLANTED_KEY", "--no-prefect"]
    said = [
        subprocess.run(
            [sys.executable, "-m", "flows.cli", stage, *arguments], cwd=ROOT, env=environment, capture_output=True
        )
        for stage in ("generate", "label")
    ]
    assert [one.returncode for one in said] == [0, 0]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in written + b"".join(one.stdout + one.stderr for one in said)
