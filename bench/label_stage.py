"""Memory of the whole label stage by number of pairs: from sampled candidates to labels and preference data on disk.

    python -m bench.label_stage [--pairs 1000 20000 200000] [--judge rules|model] [--protocol pointwise] [--json PATH]

It makes up a run whose candidates are sampled (four of sixty words for each prompt, so six pairs), starts
`ratify label` on it as a user would, and asks the kernel for the most memory that process ever had. `rules` answers
from checks, in the process; `model` asks a fake server over HTTP. A second start labels again from the verdicts that
are stored then. Left out: how fast the wire is (`bench/labelling.py`), and panels, which hold their verdicts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from bench.chat_server import serving
from bench.labelling_contenders import WORDS
from ratify.canonical import file_digest
from ratify.files import write_json, write_records, write_text
from ratify.lineage import ROOT
from ratify.run_store import RunStore
from ratify.types import Completion

REPLIES = 4
REPLY_WORDS = 60
PROMPTS_PER_SHARD = 64
MOST_BYTES = 300e6
CONSTITUTION = """schema: constitution/v1
id: bench
version: 1.0.0
principles:
  - {id: exact, text: Prefer the reply that is exact., checks: [{type: min_words, value: 50}], checks_decide: false}
  - {id: warm, text: Prefer the reply that is warm., checks: [{type: max_words, value: 60}], checks_decide: false}
"""


class Labelling(NamedTuple):
    """One start of `ratify label`."""

    pairs: int
    calls: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    labels: str
    """SHA-256 of both tables."""


def write_run(folder: Path, pairs: int, judge: list[str]) -> list[str]:
    """A run whose candidates are sampled; the arguments that label it."""
    prompts = math.ceil(pairs / math.comb(REPLIES, 2))
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for number in range(prompts):
            file.write(json.dumps({"id": f"q{number}", "prompt": f"Please answer question {number} in full."}) + "\n")
    write_text(folder / "bench.yaml", CONSTITUTION)
    stage = RunStore(folder / "runs" / "bench").stage("generate")
    stage.begin({})
    for shard, start in enumerate(range(0, prompts, PROMPTS_PER_SHARD)):
        numbers = range(start, min(start + PROMPTS_PER_SHARD, prompts))
        replies = (_reply(number, place) for number in numbers for place in range(REPLIES))
        write_records(stage.path / "train" / f"completions-{shard:05d}.jsonl", replies)
    stage.finish({}, {}, 0.0)
    file_of = folder / "prompts.jsonl"
    return [
        "configs/demo.toml", f"run.dir={folder / 'runs'}", "run.name=bench", f"constitution={folder / 'bench.yaml'}",
        f"prompts.train={file_of}", f"prompts.heldout={file_of}", "prompts.train_limit=1000000000", *judge,
    ]  # fmt: skip


def _reply(number: int, place: int) -> Completion:
    shift = (7 * number + 3 * place) % len(WORDS)
    words = (WORDS[shift:] + WORDS[:shift]) * 5
    text = " ".join(words[: REPLY_WORDS - (number + place) % 16]) + f" {place}{number}"
    return Completion(
        id=f"q{number}/old/{place}", prompt_id=f"q{number}", text=text, finish_reason="stop", prompt_tokens=10,
        completion_tokens=REPLY_WORDS, seed=place,
    )  # fmt: skip


def label(arguments: list[str], folder: Path, pairs: int) -> Labelling:
    """Start `ratify label`; its time and the most memory it had."""
    command = [sys.executable, "-m", "flows.cli", "label", *arguments, "--no-prefect"]
    started = time.perf_counter()
    with (folder / "said.txt").open("w", encoding="utf-8") as said:
        child = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit((folder / "said.txt").read_text(encoding="utf-8"))
    stage = RunStore(folder / "runs" / "bench").stage("label")
    manifest = stage.manifest()
    assert manifest is not None
    tables = "".join(file_digest(stage.path / name) for name in ("labels.parquet", "pairs.parquet"))
    return Labelling(
        pairs, manifest.metrics["label/calls/count"], time.perf_counter() - started, used.ru_utime + used.ru_stime,
        used.ru_maxrss * 1024, hashlib.sha256(tables.encode()).hexdigest(),
    )  # fmt: skip


def measure(pairs: int, judge: str, protocol: str) -> list[Labelling]:
    """Label a made-up run, and once more from what is stored."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = ["judge.kind=rules"]
        if judge == "model":
            url = stack.enter_context(serving("--latency", "0"))
            settings = ["judge.model=fake", f"judge.base_url={url}/v1", "judge.max_same_position=1"]
        arguments = write_run(folder, pairs, [*settings, f"judge.protocol={protocol}"])
        first = label(arguments, folder, pairs)
        shutil.rmtree(folder / "runs" / "bench" / "round-000" / "label")
        again = label(arguments, folder, pairs)
    assert again.labels == first.labels and again.calls == 0
    for when, found in (("asked", first), ("stored", again)):
        print(
            f"  {pairs:>8,} pairs, {when:6}: {found.calls:>9,} calls, {found.peak_bytes / 1e6:6.0f} MB, "
            f"{found.seconds:6.1f} s ({found.cpu_seconds:.1f} s of processor)",
            flush=True,
        )
    return [first, again]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000, 20_000, 200_000])
    parser.add_argument("--judge", choices=("rules", "model"), default="rules")
    parser.add_argument("--protocol", choices=("pointwise", "pairwise"), default="pointwise")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    print(f"the label stage, {arguments.judge} judge, {arguments.protocol}, two principles: peak memory")
    rows: list[dict[str, Any]] = []
    for pairs in arguments.pairs:
        rows += [found._asdict() for found in measure(pairs, arguments.judge, arguments.protocol)]
    most = max(row["peak_bytes"] for row in rows)
    print(f"  under {MOST_BYTES / 1e6:.0f} MB: {'reached' if most < MOST_BYTES else 'NOT reached'}")
    if arguments.json:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    main()
