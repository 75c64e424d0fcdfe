"""`kill -9` at random moments of a labelling run: what is lost, what is stored twice, what is paid for again.

    python -m bench.kill_labelling [--kills 50] [--pairs 2000] [--processes 1] [--seed 0] [--json PATH]

A run judges pairs in both orders against a fake server (0.1 s, 64 in flight). It is killed at a random moment, started
again on the same store, and so on; the last start gets through. With several processes a random one of them is killed.
After every kill the store is read whole: each verdict that was there must still be there, the same to the last bit, and
the requests that this start sent and did not store must be no more than can be in flight. At the end the store must
hold what a run that nobody killed holds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from bench.chat_server import counts, serving
from bench.labelling_contenders import MadeUpPrompts, made_up_pairs, rules, section
from judges.judge_processes import JudgeProcesses
from judges.labelling import label_stream
from judges.model_judge import ModelJudge
from judges.question_stream import stream_questions
from judges.questions import Judge
from ratify.client import ChatClient
from ratify.errors import RatifyError
from ratify.files import write_json
from ratify.lineage import ROOT
from ratify.verdict_store import VERDICTS, VerdictStore

IN_FLIGHT = 64
LATENCY_S = 0.1
_ENDS_S = 30.0
"""After its parent was killed, a process has long ended."""


class Outcome(NamedTuple):
    """What the kills did."""

    kills: int
    calls: int
    requests: int
    lost: int
    """Verdicts that were stored before a kill and were gone or different after it."""
    duplicated: int
    """Rows of the store beyond one per key."""
    wrong: int
    """Verdicts that an undisturbed run would not have stored, or would have stored otherwise."""
    paid_again: int
    most_paid_again: int
    """By one kill."""
    orphans: int
    """Processes that outlived a killed one."""

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, wrong or left behind, and no more paid again than was in flight."""
        return not (self.lost or self.duplicated or self.wrong or self.orphans) and self.most_paid_again <= IN_FLIGHT


async def label(url: str, folder: Path, pairs: int, processes: int) -> None:
    """One start of the run."""
    settings = section(IN_FLIGHT, url).model_copy(update={"processes": processes})
    if processes > 1:
        async with JudgeProcesses(settings, f"{url}/v1", "fake", model_hash="bench") as judge:
            await _label(judge, folder, pairs)
    else:
        async with ChatClient(settings, f"{url}/v1", "fake") as client:
            await _label(ModelJudge(settings, client, model_hash="bench"), folder, pairs)


async def _label(judge: Judge, folder: Path, pairs: int) -> None:
    store = VerdictStore.in_folder(folder)
    questions = stream_questions(MadeUpPrompts(), made_up_pairs(pairs), rules().active, judge)
    await label_stream(questions, judge, store, total=2 * pairs, failure_budget=0.0)
    store.close()


def kill_often(kills: int, pairs: int, processes: int, seed: int) -> Outcome:
    """Kill `kills` starts of one run, then let it finish."""
    draw, calls = random.Random(seed), 2 * pairs
    lost = orphans = done = paid_again = most = 0
    with tempfile.TemporaryDirectory() as place, serving("--latency", str(LATENCY_S)) as url:
        folder = Path(place) / "killed"
        stored: dict[str, float] = {}
        while len(stored) < calls:
            sent_before = counts(url)["requests"]
            # As far on average as leaves something to do for every kill that is still to come.
            reach = 2 * (calls - len(stored)) // (kills - done + 1)
            dies_at = sent_before + draw.randint(1, max(reach, 1)) if done < kills else None
            work = ("--work", url, str(folder), "--pairs", str(pairs), "--processes", str(processes))
            orphans += _start_and_kill(work, url, dies_at, draw)
            time.sleep(2 * LATENCY_S)
            found = _rows(folder)
            lost += sum(found.get(key) != logit for key, logit in stored.items())
            unsaved = counts(url)["requests"] - sent_before - (len(found) - len(stored))
            done, paid_again, most = done + (dies_at is not None), paid_again + unsaved, max(most, unsaved)
            stored = found
        requests = counts(url)["requests"]
        asyncio.run(label(url, Path(place) / "whole", pairs, 1))
        whole = _rows(Path(place) / "whole")
        wrong = len(whole.items() ^ stored.items())
        store = VerdictStore.in_folder(folder)
        doubled = store.count() - len(stored)
        store.close()
    return Outcome(done, calls, requests, lost, doubled, wrong, paid_again, most, orphans)


def _start_and_kill(work: Sequence[str], url: str, dies_at: int | None, draw: random.Random) -> int:
    """Start the run; kill one of its processes once the server was sent `dies_at` requests. Gives orphans."""
    command = [sys.executable, "-m", "bench.kill_labelling", *work]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as run:
        while dies_at is not None and run.poll() is None and counts(url)["requests"] < dies_at:
            time.sleep(0.002)
        crew = [run.pid, *_children(run.pid)]
        if dies_at is not None and run.poll() is None:
            os.kill(draw.choice(crew), signal.SIGKILL)
        run.wait()
        if dies_at is None and run.returncode:
            raise SystemExit("a run that nobody killed failed")
    return _left(crew[1:])


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


def _left(pids: list[int]) -> int:
    """How many are still there after a while; they are ended."""
    end = time.monotonic() + _ENDS_S
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left)


def _rows(folder: Path) -> dict[str, float]:
    """Log-odds by key, as they are on disk."""
    engine = sa.create_engine(f"sqlite:///{folder / 'verdicts.sqlite'}")
    if not (folder / "verdicts.sqlite").exists():
        return {}
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(VERDICTS.name):
            return {}
        found = {row.key: float(row.logit) for row in connection.execute(sa.select(VERDICTS.c.key, VERDICTS.c.logit))}
    engine.dispose()
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--work", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        try:
            asyncio.run(label(given.work[0], Path(given.work[1]), given.pairs, given.processes))
        except RatifyError as error:
            raise SystemExit(str(error)) from None
        return
    outcome = kill_often(given.kills, given.pairs, given.processes, given.seed)
    print(
        f"{outcome.kills} kills of a run of {outcome.calls:,} calls, {IN_FLIGHT} in flight, {given.processes} "
        f"process{'es' if given.processes > 1 else ''} that ask: {outcome.lost} verdicts lost, {outcome.duplicated} "
        f"stored twice, {outcome.wrong} wrong, {outcome.paid_again} requests paid again (at most "
        f"{outcome.most_paid_again} by one kill), {outcome.orphans} processes left behind: "
        f"{'clean' if outcome.clean else 'NOT clean'}"
    )
    if given.json:
        write_json(given.json, outcome._asdict() | {"in_flight": IN_FLIGHT, "processes": given.processes})


if __name__ == "__main__":
    main()
