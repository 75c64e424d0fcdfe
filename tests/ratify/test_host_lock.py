"""One process at a time per machine with GPUs, with real processes; a killed holder frees it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ratify import host_lock
from ratify.errors import StoreError
from ratify.lineage import ROOT

HOLD = "import sys; from ratify.host_lock import turn\nwith turn('other'): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(host_lock.VARIABLE, str(tmp_path / "gpu.lock"))
    return tmp_path / "gpu.lock"


def holder() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, None])
def test_a_second_process_waits_until_the_first_one_ends(lock: Path, how: signal.Signals | None) -> None:
    other = holder()
    seen: list[str] = []

    def wait(who: str, seconds: float) -> None:
        if not seen:
            assert other.stdin
            other.send_signal(how) if how else other.stdin.close()
        seen.append(who)

    with host_lock.turn("mine", wait):
        assert seen and seen[0] == f"process {other.pid} (other)"
        assert "(mine)" in lock.read_text()
    other.wait(30)
    other.communicate() if how else other.stdout.close()
    assert lock.read_text() == ""


def test_the_children_of_one_process_share_its_turn(lock: Path) -> None:
    with host_lock.turn("first"):
        with host_lock.turn("second"):
            pass
        assert "(first)" in lock.read_text()
    holder().communicate()


def test_interrupting_a_wait_leaves_nothing_held(lock: Path) -> None:
    other = holder()

    def interrupt(who: str, seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), host_lock.turn("mine", interrupt):
        raise AssertionError("two at once")
    other.communicate()
    with host_lock.turn("mine"):
        assert "(mine)" in lock.read_text()


def test_a_lock_that_cannot_be_opened_names_the_setting(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(host_lock.VARIABLE, str(lock.parent))
    with pytest.raises(StoreError, match=host_lock.VARIABLE), host_lock.turn("mine"):
        pass
