"""What Prefect adds to a round: the same small real round with it and with `--no-prefect`, in turns.

    python -m bench.overhead [--repeats 3] [--prompts 8 32] [--keep FOLDER] [--json PATH]

Each round begins in an empty folder: sampling by the real vLLM, rules as the judge, reward model, policy, evaluation.
What is added is looked for where it arises. Between the manifest of a stage and the beginning of the next one nothing
happens but orchestration: its clock time comes from the files themselves. Processor time is that of the flow's own
process, which no trainer and no vLLM is part of, and of Prefect's server. What a round takes longer as a whole is less
than the sum, where two cores let Prefect start while vLLM is imported. Two sizes tell what is added once, per stage,
and for each minute of work. A round with a server that is already up pays nothing for starting one. Medians;
`added` is with Prefect less without. Left out: a worker's start of a flow run, which happens before its first stage.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from ratify.files import write_json
from ratify.lineage import ROOT
from ratify.safety import TELEMETRY_OFF

STAGES = ("generate", "label", "reward_model", "policy", "evaluate")
SPANS = ("start", *STAGES, "end")
"""A stage's span lasts until the next one begins; before and behind them lie the start and the end of the process."""
ROUND_S = 600.0
MOST_SHARE = 0.03
MOST_TASK_RUNS = 500
POLL_S = 0.02
SERVER = "flows.temporary_server"
SETTINGS = (
    "prompts.heldout_limit=4", "sampling.shard_size=4", "sampling.max_tokens=24", "judge.kind=rules",
    "reward_model.epochs=1", "reward_model.batch_prompts=2", "preference.epochs=1", "preference.batch_prompts=2",
    "preference.max_kl=1000",
)  # fmt: skip


class Round(NamedTuple):
    """One round, from the start of its process to its end."""

    prompts: int
    prefect: bool
    seconds: float
    between_s: dict[str, float]
    """Clock seconds outside of stages, by span: before the first, behind each."""
    flow_cpu_s: dict[str, float]
    """Processor seconds of the flow's own process, by span."""
    server_cpu_s: float
    """Processor seconds of Prefect's server."""
    load: float
    """Load average of the machine at its end."""


def run_round(place: Path, prompts: int, *, prefect: bool) -> Round:
    """Run a round in an empty folder and watch it."""
    runs = place / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    arguments = ["configs/demo.toml", *SETTINGS, f"prompts.train_limit={prompts}", f"run.dir={runs}", "run.name=round"]
    command = [sys.executable, "-m", "flows.cli", "run", *arguments, *["--no-prefect"] * (not prefect)]
    begun = time.time()
    with (place / "said.txt").open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(place), stdout=said, stderr=said)
        marks, server = _watch(process, runs / "round" / "round-000")
    seconds = time.time() - begun
    if process.returncode:
        raise SystemExit((place / "said.txt").read_text(encoding="utf-8"))
    cpu = dict(zip(SPANS, (after - before for before, after in itertools.pairwise(marks)), strict=True))
    between = _between(runs / "round" / "round-000", begun, begun + seconds)
    return Round(prompts, prefect, seconds, between, cpu, server, os.getloadavg()[0])


def environment(place: Path) -> dict[str, str]:
    """Of every round; Prefect keeps its database here."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return TELEMETRY_OFF | clean | {"OMP_NUM_THREADS": "1", "PREFECT_HOME": str(place / "prefect")}


def _watch(process: subprocess.Popen[bytes], folder: Path) -> tuple[list[float], float]:
    """The flow's processor seconds when each span began and when it ended, and the server's in all."""
    flow, server, marks = psutil.Process(process.pid), 0.0, [0.0]
    now = 0.0
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            now = _cpu(flow)
            server = max(server, sum(_cpu(each) for each in flow.children() if SERVER in " ".join(each.cmdline())))
        while len(marks) <= len(STAGES) and (folder / STAGES[len(marks) - 1] / "inputs.json").exists():
            marks.append(now)
        if len(marks) == len(SPANS) - 1 and (folder / STAGES[-1] / "manifest.json").exists():
            marks.append(now)
        time.sleep(POLL_S)
    return [*marks, now], server


def _cpu(process: psutil.Process) -> float:
    """Of the process alone, without its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _between(folder: Path, begun: float, ended: float) -> dict[str, float]:
    """Clock seconds in which no stage was at work, by when the files were written."""
    first = [(folder / name / "inputs.json").stat().st_mtime for name in STAGES]
    last = [(folder / name / "manifest.json").stat().st_mtime for name in STAGES]
    gaps = [after - before for before, after in zip([begun, *last], [*first, ended], strict=True)]
    return dict(zip(["start", *STAGES[:-1], "end"], gaps, strict=True))


class Added(NamedTuple):
    """What Prefect adds to a round of one size: medians with it less medians without."""

    prompts: int
    seconds: float
    """Clock time of the round with Prefect."""
    longer_s: float
    """Clock time of the whole round with Prefect less that without."""
    between_s: dict[str, float]
    flow_cpu_s: dict[str, float]
    server_cpu_s: float


def added(rounds: list[Round], prompts: int) -> Added:
    """Compare the rounds of one size."""
    sides = [[each for each in rounds if each.prompts == prompts and each.prefect is side] for side in (True, False)]

    def more(of: str) -> dict[str, float]:
        medians = [
            {span: statistics.median(getattr(each, of)[span] for each in side) for span in getattr(side[0], of)}
            for side in sides
        ]
        return {span: medians[0][span] - medians[1][span] for span in medians[0]}

    server = statistics.median(each.server_cpu_s for each in sides[0])
    seconds, without = (statistics.median(each.seconds for each in side) for side in sides)
    return Added(prompts, seconds, seconds - without, more("between_s"), more("flow_cpu_s"), server)


def most_task_runs(place: Path) -> tuple[int, int]:
    """Task runs of all flow runs, and the most that one of them has, by Prefect's own database."""
    with contextlib.closing(sqlite3.connect(place / "prefect" / "prefect.db")) as database:
        counts = [row[0] for row in database.execute("SELECT count(*) FROM task_run GROUP BY flow_run_id")]
    return sum(counts), max(counts, default=0)


def table(found: Added) -> list[str]:
    """What is added to a round of one size, span by span."""
    lines = [
        f"{found.prompts} prompts, {found.seconds:.0f} s with Prefect; added:",
        f"  {'span':14} {'clock s':>8} {'flow cpu s':>11}",
    ]
    for span in SPANS:
        clock = f"{found.between_s[span]:8.2f}" if span in found.between_s else " " * 8
        lines.append(f"  {span:14} {clock} {found.flow_cpu_s[span]:11.2f}")
    clock_s, flow_s = sum(found.between_s.values()), sum(found.flow_cpu_s.values())
    return [*lines, f"  {'in all':14} {clock_s:8.2f} {flow_s:11.2f}   server {found.server_cpu_s:.2f} s of processor"]


def share(sizes: list[Added]) -> list[str]:
    """Of a round of ten minutes: clock time outside of stages, and processor time, which may grow with the time."""
    least, most = sizes[0], sizes[-1]
    span = most.seconds - least.seconds
    cpu = [sum(each.flow_cpu_s.values()) + each.server_cpu_s for each in (least, most)]
    growth = max(0.0, (cpu[1] - cpu[0]) / span) if span > 0 else 0.0
    long_cpu = cpu[1] + growth * max(0.0, ROUND_S - most.seconds)
    clock, before = sum(most.between_s.values()), most.between_s["start"]
    return [
        f"between the stages {clock:.1f} s of clock time more, of it {before:.1f} before the first one, where "
        "Prefect is imported and its server started while vLLM is imported too",
        f"a whole round takes {most.longer_s:.1f} s longer by the clock, {most.longer_s / ROUND_S:.1%} of "
        f"{ROUND_S / 60:.0f} minutes",
        f"{long_cpu:.1f} s of processor time in all ({long_cpu / ROUND_S:.1%}), "
        f"of it {60 * growth:.2f} s for each minute of work",
        f"at most {MOST_SHARE:.0%} by the clock: "
        + ("reached" if most.longer_s <= MOST_SHARE * ROUND_S else "NOT reached"),
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prompts", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    place = given.keep or Path(tempfile.mkdtemp(prefix="ratify-overhead-"))
    rounds: list[Round] = []
    try:
        # Prefect's database is made once, when it is first used, and belongs to no round.
        make = "from flows import temporary_server as it; it.start().stop()"
        subprocess.run([sys.executable, "-c", make], cwd=ROOT, env=environment(place), check=True)
        for _ in range(given.repeats):
            for prompts in given.prompts:
                for prefect in (True, False):
                    rounds.append(run_round(place, prompts, prefect=prefect))
                    print(rounds[-1], flush=True)
        tasks, most = most_task_runs(place)
    finally:
        if given.keep is None:
            shutil.rmtree(place, ignore_errors=True)
    sizes = [added(rounds, prompts) for prompts in given.prompts]
    lines = [line for size in sizes for line in table(size)]
    limit = "reached" if most <= MOST_TASK_RUNS else "NOT reached"
    runs = sum(each.prefect for each in rounds)
    lines += [*share(sizes), f"{tasks} task runs in {runs} rounds, at most {most} in a flow run (500: {limit})"]
    print(
        "\n".join(
            [*lines, f"load average {min(each.load for each in rounds):.0f} to {max(each.load for each in rounds):.0f}"]
        )
    )
    if given.json:
        write_json(given.json, {"rounds": [each._asdict() for each in rounds], "task_runs": tasks, "most": most})


if __name__ == "__main__":
    main()
