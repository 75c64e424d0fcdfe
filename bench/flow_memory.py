"""Memory of the process that runs Prefect's flows, by number of comparisons: it hands files around, not rows.

    python -m bench.flow_memory [--pairs 1000 20000 200000] [--keep FOLDER] [--json PATH]

Makes up a run whose candidates are sampled (`bench/label_stage.py`), then starts the flow `label-preferences` with the
`rules` judge, again for what is stored, and the flow `train-policy` until its trainer has been at work for a while.
The kernel's peak of the flow's own process is read and set back when a stage begins and ends, so each figure is of one
span: `start` are imports, `stage` is the stage, of which labelling works in this process and training does not, and
`behind` are its artifacts and the end. Trainer and Prefect's server are processes of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.label_stage import write_run
from ratify.files import write_json
from ratify.lineage import ROOT

TRAINING_S = 40.0
"""The flow only waits for its trainer; so long is looked."""
POLL_S = 0.02
RESET_PEAK = "5"
"""For /proc/PID/clear_refs: the peak begins anew with what the process has now."""
SETTINGS = (
    "judge.kind=rules",
    "judge.protocol=pointwise",
    "reward_model.enabled=false",
    "policy.model=data/demo/policy",
)


class Peaks(NamedTuple):
    """Most resident memory of the flow's process in each span, in bytes."""

    pairs: int
    what: str
    start: int
    stage: int
    behind: int
    cpu_seconds: float


def follow(command: list[str], place: Path, stage: Path, most_s: float) -> tuple[list[int], float]:
    """Start a flow; its peak before, in and behind a stage, and its processor seconds.

    Ends it `most_s` after the stage began, where it has not ended by itself.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"OMP_NUM_THREADS": "1", "PREFECT_HOME": str(place / "prefect")}
    with (place / "said.txt").open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
        flow, peaks, cpu, begun = psutil.Process(process.pid), [0], 0.0, float("inf")
        while process.poll() is None:
            with contextlib.suppress(psutil.Error, OSError, StopIteration):
                peaks[-1] = max(peaks[-1], _peak(process.pid))
                cpu = sum(flow.cpu_times()[:2])
            if len(peaks) < 3 and (stage / ("inputs.json", "manifest.json")[len(peaks) - 1]).exists():
                begun = min(begun, time.monotonic())
                Path(f"/proc/{process.pid}/clear_refs").write_text(RESET_PEAK, encoding="utf-8")
                peaks.append(0)
            if time.monotonic() - begun > most_s:
                process.terminate()
                begun = float("inf")
            time.sleep(POLL_S)
    if process.returncode and most_s == float("inf"):
        raise SystemExit((place / "said.txt").read_text(encoding="utf-8"))
    return [*peaks, 0, 0][:3], cpu


def _peak(pid: int) -> int:
    """What /proc/PID/status calls VmHWM; wait4's figure would be the largest child's."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def measure(pairs: int, place: Path) -> list[Peaks]:
    """The flows of one size, in a folder of its own."""
    folder = place / str(pairs)
    folder.mkdir(parents=True)
    arguments = write_run(folder, pairs, list(SETTINGS))
    rounds = folder / "runs" / "bench" / "round-000"
    command = [sys.executable, "-m", "flows.cli"]
    found = []
    for what, name, stage, most_s in (
        ("labelled", "label", "label", float("inf")),
        ("stored", "label", "label", float("inf")),
        ("trained", "train", "policy", TRAINING_S),
    ):
        if what == "stored":
            shutil.rmtree(rounds / stage)
        (start, inside, behind), cpu = follow([*command, name, *arguments], folder, rounds / stage, most_s)
        found.append(Peaks(pairs, what, start, inside, behind, cpu))
        print(
            f"  {pairs:>9,} comparisons, {what:9} start {start / 1e6:5.0f} MB, stage {inside / 1e6:5.0f} MB, "
            f"behind {behind / 1e6:5.0f} MB, {cpu:.0f} s of processor",
            flush=True,
        )
    shutil.rmtree(folder)
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000, 20_000, 200_000])
    parser.add_argument("--keep", type=Path, help="work here instead of in a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    place = given.keep or Path(tempfile.mkdtemp(prefix="ratify-memory-"))
    try:
        rows = [each._asdict() for pairs in given.pairs for each in measure(pairs, place)]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if given.json:
        write_json(given.json, rows)


if __name__ == "__main__":
    main()
