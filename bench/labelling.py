"""Labelling at the wire's speed: our engine beside the bare loops that are its ceilings, against a fake server.

    python -m bench.labelling [--quick] [--json PATH]

The server runs in a process of its own and waits 0.2 s per request, or log-normally with a mean of 2 s and a sigma of
0.8; each contender runs in a fresh process, and the contenders take turns, so that what else the machine does hits all
of them. Ratios are medians over the turns. One call is one verdict: one principle, one pair, one shown order. Two
further tables: memory of ours against the number of pairs, and one labelling process against two where the process is
the limit. Left out: other people's tools, which need environments of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.chat_server import reset, serving
from ratify.files import write_json
from ratify.lineage import ROOT

FIXED = ("--latency", "0.2")
TAIL = ("--log-normal", "2.0", "0.8")
AT_ONCE = ("--latency", "0.0")


class Case(NamedTuple):
    """One kind of load."""

    title: str
    server: tuple[str, ...]
    in_flight: int
    calls: int
    ceiling: str
    target: float
    """Least share of the ceiling's rate."""


CASES = (
    Case("64 in flight, 0.2 s", FIXED, 64, 6_000, "aiohttp", 0.95),
    Case("256 in flight, 0.2 s", FIXED, 256, 15_000, "sdk", 0.90),
    Case("64 in flight, log-normal 2 s", TAIL, 64, 640, "aiohttp", 0.95),
)
LOOPS = ("aiohttp", "sdk", "ratify")
MOST_CPU_MS = 1.2
LEAST_SPEED_UP = 1.8
MOST_BYTES = 300e6


class Pass(NamedTuple):
    """One contender's turn."""

    rate: float
    """Calls per second."""
    cpu_ms: float
    """Processor time of the contender's process per call."""
    peak_bytes: float
    helpers_cpu_ms: float
    """Processor time per call of the processes that it started, their start included."""


def take(contender: str, url: str, calls: int, in_flight: int) -> Pass:
    """Run one contender in a process of its own."""
    reset(url)
    command = [sys.executable, "-m", "bench.labelling_contenders", contender, url, str(calls), str(in_flight)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout.splitlines()[-1])
    spent, helpers = (1e3 * found[name] / found["calls"] for name in ("cpu_seconds", "helpers_cpu_seconds"))
    return Pass(found["calls"] / found["seconds"], spent, found["peak_bytes"], helpers)


def compare(case: Case, turns: int, share: float) -> dict[str, Any]:
    """All contenders under one load, in turns."""
    calls = 2 * max(case.in_flight, int(case.calls * share / 2))
    passes: dict[str, list[Pass]] = defaultdict(list)
    with serving(*case.server) as url:
        for _ in range(turns):
            for contender in LOOPS:
                passes[contender].append(take(contender, url, calls, case.in_flight))
    print(f"\n{case.title}: {calls:,} calls, {turns} turns")
    rows = [_row(name, taken, passes) for name, taken in passes.items()]
    ratio = next(row[f"of_{case.ceiling}"] for row in rows if row["contender"] == "ratify")
    reached = "reached" if ratio >= case.target else "NOT reached"
    print(f"  ratify / {case.ceiling} = {ratio:.3f}, target {case.target:.2f}: {reached}")
    return {"case": case.title, "calls": calls, "turns": turns, "rows": rows, "ratio": ratio, "target": case.target}


def _row(name: str, taken: Sequence[Pass], passes: dict[str, list[Pass]]) -> dict[str, Any]:
    middle = Pass(*(statistics.median(column) for column in zip(*taken, strict=True)))
    row: dict[str, Any] = {"contender": name, **middle._asdict()}
    for ceiling in ("aiohttp", "sdk"):
        both = zip(taken, passes[ceiling], strict=True)
        row[f"of_{ceiling}"] = statistics.median(ours.rate / theirs.rate for ours, theirs in both)
    print(f"{_line(name, middle)}  {row['of_aiohttp']:.3f} of aiohttp  {row['of_sdk']:.3f} of sdk", flush=True)
    return row


def _line(name: str, taken: Pass) -> str:
    spent = f"{taken.cpu_ms:6.2f} ms of processor per call"
    return f"  {name:12} {taken.rate:8.1f} calls/s {spent} {taken.peak_bytes / 1e6:6.0f} MB"


def memory(sizes: Sequence[int]) -> list[dict[str, float]]:
    """Peak memory of ours by number of pairs, two calls each."""
    print("\npairs against peak memory (256 in flight, no wait)")
    rows = []
    with serving(*AT_ONCE) as url:
        for pairs in sizes:
            taken = take("ratify", url, 2 * pairs, 256)
            rows.append({"pairs": pairs, "peak_bytes": taken.peak_bytes})
            print(f"  {pairs:>8,} pairs {taken.peak_bytes / 1e6:6.0f} MB, {taken.rate:.0f} calls/s", flush=True)
    flat = rows[-1]["peak_bytes"] < MOST_BYTES
    print(f"  under {MOST_BYTES / 1e6:.0f} MB: {'reached' if flat else 'NOT reached'}")
    return rows


def processes(calls: int, turns: int) -> dict[str, Any]:
    """One labelling process against two, where the process is the limit."""
    passes: dict[str, list[Pass]] = defaultdict(list)
    with serving(*FIXED) as url:
        for _ in range(turns):
            for contender in ("ratify", "ratify2"):
                passes[contender].append(take(contender, url, calls, 1024))
    both = zip(passes["ratify2"], passes["ratify"], strict=True)
    ratio = statistics.median(two.rate / one.rate for two, one in both)
    one, two = (Pass(*map(statistics.median, zip(*passes[name], strict=True))) for name in ("ratify", "ratify2"))
    bound = one.cpu_ms / max(two.cpu_ms, two.helpers_cpu_ms / 2)
    cores = len(os.sched_getaffinity(0))
    print(f"\ntwo processes that ask / one, 1,024 in flight, 0.2 s: {ratio:.2f} on {cores} cores")
    print("  (the server and the process that stores take a core each: fewer than four cores say little)")
    print(f"  {bound:.2f} by processor time: the busiest of the three spends that much less per call than the one")
    print(f"{_line('ratify', one)}\n{_line('ratify2', two)}, {two.helpers_cpu_ms:.2f} ms in the two that ask")
    return {"ratio": ratio, "by_processor_time": bound, "target": LEAST_SPEED_UP, "cores": cores}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the calls, one turn, 20,000 pairs at most")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    turns, share = (1, 0.2) if arguments.quick else (5, 1.0)
    figures = {
        "cores": len(os.sched_getaffinity(0)),
        "cases": [compare(case, turns, share) for case in CASES],
        "processes": processes(4_000 if arguments.quick else 20_000, turns),
        "memory": memory((1_000, 20_000) if arguments.quick else (1_000, 20_000, 200_000)),
    }
    if arguments.json:
        write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
