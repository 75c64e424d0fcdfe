"""Labelling at the wire's speed: our engine beside the bare loops that are its ceilings, against a fake server.

    python -m bench.labelling [--quick] [--only cases|processes|memory] [--turns 5] [--json PATH]
                              [--curator PYTHON] [--distilabel PYTHON]

The server runs in a process of its own and waits 0.2 s per request, or log-normally with a mean of 2 s and a sigma of
0.8; each contender runs in a fresh process, and the contenders take turns, so that what else the machine does hits all
of them. Ratios are medians over the turns. One call is one verdict: one principle, one pair, one shown order. Two
further tables: memory of ours against the number of pairs, and one labelling process against two where the process is
the limit, freely and with a fixed share of a core for each, since three processes and a server do not fit on two cores.
Left out: other people's tools, which need environments of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.chat_server import counts, reset, serving
from bench.labelling_contenders import write_requests
from bench.processor_share import available
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
PEER_CALLS = 3_000
"""A peer makes no more of them, since some do a few dozen a second."""
PEERS = ("curator", "distilabel")
Peers = dict[str, str]
"""Their interpreters, by name."""
MOST_CPU_MS = 1.2
LEAST_SPEED_UP = 1.8
SHARE = 0.4
"""Of a core for each process: three of them and the server then fit on two cores."""
MOST_BYTES = 300e6


class Pass(NamedTuple):
    """One contender's turn."""

    rate: float
    """Calls per second."""
    cpu_ms: float
    """Processor time of the contender's process per call."""
    peak_bytes: float
    helpers_cpu_ms: float
    """Processor time per call of the processes that it started; of peers, their start included."""
    server_cpu_ms: float
    """Processor time per call of the fake server."""

    @property
    def all_cpu_ms(self) -> float:
        """Of all processes that take part: so many cores times 1,000 over this is the most calls per second."""
        return self.cpu_ms + self.helpers_cpu_ms + self.server_cpu_ms


def take(contender: str, url: str, calls: int, in_flight: int, share: float | None = None) -> Pass:
    """Run one contender in a process of its own."""
    reset(url)
    command = [sys.executable, "-m", "bench.labelling_contenders", contender, url, str(calls), str(in_flight)]
    command += [str(share)] if share else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout.splitlines()[-1])
    return _pass(found, counts(url), found["seconds"])


def _pass(found: dict[str, Any], seen: dict[str, Any], seconds: float) -> Pass:
    """What a contender and the server measured."""
    seconds_of = (found["cpu_seconds"], found["helpers_cpu_seconds"], seen["cpu_seconds"])
    own, helpers, server = (1e3 * each / found["calls"] for each in seconds_of)
    return Pass(found["calls"] / seconds, own, found["peak_bytes"], helpers, server)


def take_peer(name: str, python: str, url: str, requests: Path, in_flight: int) -> Pass:
    """Run one peer by its own interpreter; everything that it was given must have been asked."""
    reset(url)
    script = ROOT / "bench" / f"peer_{name}.py"
    command = [python, "-P", str(script), url, str(requests), str(in_flight)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=requests.parent)
    if done.returncode:
        raise SystemExit(f"{name} by {python} failed:\n{done.stderr[-4000:]}")
    found, seen = json.loads(done.stdout.splitlines()[-1]), counts(url)
    assert found["calls"] <= seen["distinct"], (found, seen)  # curator asks once more, to find out about limits
    return _pass(found, seen, min(found["seconds"], seen["seconds"]))


def compare(case: Case, turns: int, share: float, peers: Peers) -> dict[str, Any]:
    """All contenders under one load, in turns."""
    calls = 2 * max(case.in_flight, int(case.calls * share / 2))
    passes: dict[str, list[Pass]] = defaultdict(list)
    with serving(*case.server) as url, tempfile.TemporaryDirectory() as folder:
        requests = Path(folder) / "requests.jsonl"
        if peers:
            write_requests(requests, min(calls, PEER_CALLS))
        for _ in range(turns):
            for contender in LOOPS:
                passes[contender].append(take(contender, url, calls, case.in_flight))
            for name, python in peers.items():
                passes[name].append(take_peer(name, python, url, requests, case.in_flight))
    print(f"\n{case.title}: {calls:,} calls, {turns} turns")
    rows = [_row(name, taken, passes) for name, taken in passes.items()]
    ratio = next(row[f"of_{case.ceiling}"] for row in rows if row["contender"] == "ratify")
    reached = "reached" if ratio >= case.target else "NOT reached"
    print(f"  ratify / {case.ceiling} = {ratio:.3f}, target {case.target:.2f}: {reached}")
    for name in peers:
        both = zip(passes["ratify"], passes[name], strict=True)
        print(f"  ratify / {name} = {statistics.median(ours.rate / theirs.rate for ours, theirs in both):.2f}")
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
    spent = f"{taken.cpu_ms + taken.helpers_cpu_ms:6.2f} ms of processor per call"
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


def processes(calls: int, turns: int, share: float | None = None) -> dict[str, Any]:
    """One labelling process against two, where the process is the limit; with `share`, of so much of a core each."""
    passes: dict[str, list[Pass]] = defaultdict(list)
    with serving(*FIXED) as url:
        for _ in range(turns):
            for contender in ("ratify", "ratify2"):
                passes[contender].append(take(contender, url, calls, 1024, share))
    both = zip(passes["ratify2"], passes["ratify"], strict=True)
    ratio = statistics.median(two.rate / one.rate for two, one in both)
    one, two = (Pass(*map(statistics.median, zip(*passes[name], strict=True))) for name in ("ratify", "ratify2"))
    cores = len(os.sched_getaffinity(0))
    where = f"{share} of a core for each process" if share else f"{cores} cores for all"
    print(f"\ntwo processes that ask / one, 1,024 in flight, 0.2 s, {where}: {ratio:.2f}, target {LEAST_SPEED_UP}")
    most = {}
    for name, taken in (("ratify", one), ("ratify2", two)):
        longest = max(taken.cpu_ms, taken.helpers_cpu_ms / 2)
        most[name] = min(1e3 * (share or 1) / longest, 1e3 * cores / taken.all_cpu_ms, 1024 / 0.2)
        print(f"{_line(name, taken)}: {taken.cpu_ms:.2f} ms the first process, {taken.helpers_cpu_ms:.2f} those that")
        print(f"    ask, {taken.server_cpu_ms:.2f} the server, so at most {most[name]:,.0f} calls/s")
    allowed = most["ratify2"] / most["ratify"]
    print(f"  {allowed:.2f} is the most that these processor times allow")
    return {
        "ratio": ratio, "allowed": allowed, "target": LEAST_SPEED_UP, "cores": cores, "share": share,
        "one": one._asdict(), "two": two._asdict(),
    }  # fmt: skip


def scaling(calls: int, turns: int) -> list[dict[str, Any]]:
    """Two processes against one, on the cores there are and, where shares can be given out, on cores for each."""
    if available():
        return [processes(calls, turns), processes(calls // 2, turns, SHARE)]
    print("\nno shares of a core can be given out here (control groups, version 1), so only the cores there are")
    return [processes(calls, turns)]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the calls, one turn, 20,000 pairs at most")
    parser.add_argument("--only", choices=("cases", "processes", "memory"), help="one of the three tables")
    parser.add_argument("--turns", type=int, help="how often each contender takes its turn (5, with --quick 1)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    for name in PEERS:
        parser.add_argument(f"--{name}", metavar="PYTHON", help=f"an interpreter that has {name}")
    arguments = parser.parse_args()
    turns, share = arguments.turns or (1 if arguments.quick else 5), 0.2 if arguments.quick else 1.0
    peers = {name: path for name in PEERS if (path := getattr(arguments, name))}
    tables: dict[str, Callable[[], Any]] = {
        "cases": lambda: [compare(case, turns, share, peers) for case in CASES],
        "processes": lambda: scaling(4_000 if arguments.quick else 20_000, turns),
        "memory": lambda: memory((1_000, 20_000) if arguments.quick else (1_000, 20_000, 200_000)),
    }
    figures: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    figures |= {name: make() for name, make in tables.items() if arguments.only in (None, name)}
    if arguments.json:
        write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
