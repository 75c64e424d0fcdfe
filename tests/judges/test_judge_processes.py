"""Several processes that ask for one judge: the same verdicts, one store, no orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judges.judge_processes import JudgeProcesses
from judges.labelling import Collection, collect_verdicts
from judges.model_judge import ModelJudge
from ratify.client import ChatClient
from ratify.errors import BudgetError, EndpointError, RatifyError
from ratify.lineage import ROOT
from ratify.sections import JudgeSection
from ratify.verdict_store import VerdictStore
from tests.judges.fake_server import FakeServer
from tests.judges.worlds import asked, constitution, many

RULES = constitution(
    "id: p, examples: [{prompt: Who?, better: I., worse: You., why: It is so.}], checks: [{type: max_words, value: 9}]",
    "id: q, tests: [{prompt: Who?, a: I., b: You., expect: a}]",
    "id: r, severity: hard, applies_to: {any_regex: ['Question']}",
)


def section(**changes: Any) -> JudgeSection:
    settings = {"model": "fake", "concurrency": 16, "processes": 2, "max_retries": 0, "timeout_s": 5.0}
    return JudgeSection(**(settings | changes))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


async def by_processes(server: FakeServer, folder: Path, pairs: int, settings: JudgeSection, **actions: Any) -> Any:
    store = VerdictStore.in_folder(folder)
    async with JudgeProcesses(settings, server.url, "fake", model_hash="m") as judge:
        act = asyncio.create_task(actions["during"](judge)) if actions else None
        try:
            sheet = asked(judge, RULES, *many(pairs))
            return await collect_verdicts(sheet.questions, judge, store, failure_budget=0.02)
        finally:
            store.close()
            if act:
                await act


def alone(server: FakeServer, folder: Path, pairs: int, settings: JudgeSection) -> Collection:
    async def label() -> Collection:
        store = VerdictStore.in_folder(folder)
        async with ChatClient(settings, server.url, "fake") as client:
            judge = ModelJudge(settings, client, model_hash="m")
            found = await collect_verdicts(
                asked(judge, RULES, *many(pairs)).questions, judge, store, failure_budget=0.02
            )
        store.close()
        return found

    return asyncio.run(label())


def children_of(pid: int) -> list[int]:
    """The asking processes that `pid` has started; a test session has other children too."""
    names = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [int(name) for name in names if "judges.answering" in _command_line(name)]


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:  # it ended in between
        return ""


def alive(pid: int) -> bool:
    """Not gone, and not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone_within(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("protocol", ["pointwise", "pairwise"])
def test_two_processes_give_the_verdicts_of_one(server: FakeServer, tmp_path: Path, protocol: str) -> None:
    settings = section(protocol=protocol)
    server.latency_s = 0.01
    found = asyncio.run(by_processes(server, tmp_path / "two", 20, settings))
    assert server.requests == len(found.verdicts) == 20 * 2 * 3 and 8 < server.most_in_flight <= 16
    assert found.verdicts == alone(server, tmp_path / "one", 20, settings).verdicts
    assert children_of(os.getpid()) == []


def test_what_one_process_stored_several_do_not_ask(server: FakeServer, tmp_path: Path) -> None:
    alone(server, tmp_path, 5, section())
    found = asyncio.run(by_processes(server, tmp_path, 6, section()))
    assert server.requests == 36 and found.statistics.reused == 30


def test_a_fault_that_concerns_every_call_reaches_the_asking_process(server: FakeServer, tmp_path: Path) -> None:
    server.always = "401"
    with pytest.raises(EndpointError, match="OPENAI_API_KEY"):
        asyncio.run(by_processes(server, tmp_path, 5, section()))
    assert children_of(os.getpid()) == []


def test_every_failed_attempt_is_kept_under_a_key_of_its_own(server: FakeServer, tmp_path: Path) -> None:
    settings = section(readout="samples", samples=1)  # the fake server's answers look cut off to it
    with pytest.raises(BudgetError, match="truncated"):
        asyncio.run(by_processes(server, tmp_path, 20, settings))
    store = VerdictStore.in_folder(tmp_path)
    keys = [key for key, _, _ in store.failures()]
    assert len(set(keys)) == len(keys) >= 20 * 3
    store.close()


def test_a_killed_process_stops_the_pass_and_the_next_run_finishes_it(server: FakeServer, tmp_path: Path) -> None:
    server.latency_s = 0.05

    async def kill_one(_judge: JudgeProcesses) -> None:
        while server.answered < 60:
            await asyncio.sleep(0.01)
        os.kill(children_of(os.getpid())[0], signal.SIGKILL)

    with pytest.raises(RatifyError, match=r"killed by signal 9; .*run the same command again"):
        asyncio.run(by_processes(server, tmp_path, 100, section(), during=kill_one))
    assert children_of(os.getpid()) == []
    store = VerdictStore.in_folder(tmp_path)
    assert 40 <= store.count() < 600 and server.requests - store.count() <= 16
    store.close()
    asyncio.run(by_processes(server, tmp_path, 100, section()))
    assert 0 <= server.requests - 600 <= 16


CHILD = """
import asyncio, signal, sys
from pathlib import Path
from tests.judges.fake_server import FakeServer
from tests.judges.test_judge_processes import by_processes, section
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with Ctrl-C ignored
server = FakeServer(port=int(sys.argv[1]))
asyncio.run(by_processes(server, Path(sys.argv[2]), 100, section()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ending_the_asking_process_leaves_no_orphan_and_a_store_to_go_on_from(
    server: FakeServer, tmp_path: Path, how: signal.Signals
) -> None:
    server.latency_s = 0.5  # most is still to be asked when the signal comes, however busy the machine
    command = [sys.executable, "-c", CHILD, str(server.port), str(tmp_path)]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    while server.answered < 60:
        assert parent.poll() is None
        time.sleep(0.01)
    pids = children_of(parent.pid)
    assert len(pids) == 2
    # A terminal's Ctrl-C reaches the whole group; a kill reaches one process.
    os.killpg(parent.pid, how) if how == signal.SIGINT else os.kill(parent.pid, how)
    parent.wait(20)
    assert gone_within(pids, 20)
    store = VerdictStore.in_folder(tmp_path)
    assert 40 <= store.count() < 600 and server.requests - store.count() <= 16
    store.close()
    server.latency_s = 0.0
    asyncio.run(by_processes(server, tmp_path, 100, section()))
    assert 0 <= server.requests - 600 <= 16
