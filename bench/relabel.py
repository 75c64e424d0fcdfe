"""What an edit of a constitution costs at 100,000 pairs × 16 principles × 2 orders: calls, seconds, bytes.

    python -m bench.relabel [--quick] [--json PATH]

Pairs and verdicts are made up and kept as columns, as a run keeps them; from there on everything is the product's own
path: what is missing, aggregation over arrays, the flip report in three formats, the table of labels, and the
preference data. No judge is asked: calls are the questions that would be.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from constitutions.load import parse_constitution
from constitutions.schema import Constitution
from evaluation.flip_report import write_flip_report
from flows.context import RunContext
from flows.stages.judge_columns import JudgeColumns
from flows.stages.label import LABELS, PAIRS, writing_labels
from flows.stages.relabel import Bench, counts
from flows.stages.relabel_report import flip_figures, sides
from judges.columns import Column, column_identity, pairs_identity, write_column
from judges.questions import Pair
from ratify.config import load_config
from ratify.files import write_json
from ratify.lineage import ROOT
from ratify.types import Completion, Message, Prompt, Verdict

PRINCIPLES = 16
PAIRS_PER_PROMPT = 4
HEAD = "schema: constitution/v1\nid: bench\nversion: 1.0.0\naggregate: {clamp: [0.02, 0.98], min_margin: 0.1}\n"
Edit = Callable[[str], str]


class Measured(NamedTuple):
    """One kind of edit."""

    edit: str
    calls: int
    seconds: float
    """By the clock; on a busy machine more than the processor time."""
    cpu_seconds: float
    changed: int | None
    bytes_written: int


def text_of() -> str:
    """A constitution of sixteen principles; the last is hard."""
    lines = [
        f"  - {{id: p{number}, tier: {tier}, weight: 1.0, text: The reply is fine {number}.}}\n"
        for number, tier in enumerate(["high", "low"] * (PRINCIPLES // 2))
    ]
    lines[-1] = lines[-1].replace("weight: 1.0", "weight: 1.0, severity: hard")
    return HEAD + "tiers: [high, low]\nprinciples:\n" + "".join(lines)


EDITS: dict[str, Edit] = {
    "comment": lambda text: text + "# a remark\n",
    "order of principles": lambda text: (
        text.split("principles:\n")[0]
        + "principles:\n"
        + "".join(f"{line}\n" for line in reversed(text.split("principles:\n")[1].splitlines()))
    ),
    "one weight": lambda text: text.replace("weight: 1.0", "weight: 4.0", 1),
    "a hard principle": lambda text: text.replace("weight: 1.0", "weight: 1.0, severity: hard", 1),
    "clamp": lambda text: text.replace("[0.02, 0.98]", "[0.3, 0.7]"),
    "method": lambda text: text.replace("{clamp", "{method: probability_mean, clamp"),
    "a principle removed": lambda text: text.rsplit("  - {", 1)[0],
    "text of one principle": lambda text: text.replace("fine 5.", "kind and plain."),
}


class MadeUp(Bench):
    """A bench whose pairs and columns come from a random generator instead of a run."""

    def __init__(self, context: RunContext, pairs: list[Pair], prompts: dict[str, Prompt]) -> None:
        self.context, self.per_pair, self.prompts, self.pairs = context, 0, prompts, pairs
        self.completions = {}
        self.identity = pairs_identity(prompts, pairs)
        made_up = context.config.judge.model_copy(update={"model": "bench", "base_url": "http://127.0.0.1:1/v1"})
        config = context.config.model_copy(update={"judge": made_up.model_copy(update={"protocol": "pairwise"})})
        alone = RunContext(config, context.round_number)
        self.judges = [JudgeColumns(alone, Path("no calibrator"), prompts, pairs, self.identity)]
        self.judge = self.judges[0].judge

    def fill(self, constitution: Constitution, seed: int = 0) -> None:
        """Keep a complete column of every principle; a pair's quality difference is shared by all principles."""
        generator = np.random.default_rng(seed)
        count = len(self.pairs)
        quality = generator.normal(0, 1.5, count)
        for principle in constitution.active:
            lead = quality + generator.normal(0, 1.5, count)
            z = np.stack([lead, -lead], axis=1) + generator.normal(0, 0.7, (count, 2))
            keys = np.frombuffer(generator.bytes(count * 64).hex().encode(), dtype="S64").reshape(count, 2)
            name = column_identity(principle, self.judge, self.identity)
            write_column(
                self.judges[0]._file(name), Column(np.ones(count, dtype=bool), z, keys, np.zeros(count, dtype=np.int8))
            )
            self.store.append([_verdict(str(key, "ascii"), principle.id) for key in (keys[0, 0], keys[-1, -1])])


def _verdict(key: str, principle: str) -> Verdict:
    return Verdict(key=key, judge="b", principle=principle, protocol="pairwise", prompt_id="p", first_id="a", logit=0.0)


def make_pairs(count: int) -> tuple[list[Pair], dict[str, Prompt]]:
    """Pairs of replies of sixty words each."""
    words = ["the", "a", "reply", "that", "is", "long", "enough", "to", "look", "like", "one", "with", "words"]
    generator = np.random.default_rng(1)
    prompts, pairs = {}, []
    for number in range(count):
        name = f"prompt-{number // PAIRS_PER_PROMPT}"
        message = Message(role="user", content=f"Question {name}?")
        prompts[name] = Prompt(id=name, messages=(message,), tags=(f"tag-{number // PAIRS_PER_PROMPT % 8}",))
        a, b = (
            Completion(
                id=f"{name}/old/{number}{side}", prompt_id=name, text=" ".join(generator.choice(words, 60)),
                finish_reason="stop", prompt_tokens=10, completion_tokens=60, seed=0,
            )
            for side in "ab"
        )  # fmt: skip
        pairs.append((a, b))
    return pairs, prompts


def measure(bench: MadeUp, name: str, folder: Path) -> Measured:
    """One edit from files to files: columns are read again, as a new process reads them."""
    bench.judges[0]._columns.clear()
    old = parse_constitution(text_of(), Path("old.yaml"))
    new = parse_constitution(EDITS[name](text_of()), Path("new.yaml"))
    started, worked = time.perf_counter(), time.process_time()
    calls = counts(bench.missing(new)).total()
    if calls:
        return Measured(name, calls, time.perf_counter() - started, time.process_time() - worked, None, 0)
    edited = sides(bench, old, new)
    figures = flip_figures(bench, edited, calls={"label/calls/count": 0}, gold=None, noise=None)
    written = write_flip_report(folder, figures)
    found = bench.labelled(new, edited.after.evidence, edited.after.made)
    with writing_labels(folder, new) as files:
        files.add(found, bench.prompts)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
    size = sum(path.stat().st_size for path in [*written, folder / LABELS, folder / PAIRS])
    return Measured(name, 0, seconds, cpu_seconds, figures["changed"], size)


def run(count: int) -> dict[str, Any]:
    """Every kind of edit on `count` pairs."""
    with tempfile.TemporaryDirectory() as place:
        config = load_config(ROOT / "configs" / "demo.toml", [f"run.dir={place}"])
        pairs, prompts = make_pairs(count)
        with MadeUp(RunContext(config), pairs, prompts) as bench:
            bench.fill(parse_constitution(text_of(), Path("old.yaml")))
            rows = []
            for name in EDITS:
                rows.append(measure(bench, name, Path(place) / "out"))
                print(_line(rows[-1]), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory of the process: {peak / 1e9:.2f} GB")
    return {"pairs": count, "principles": PRINCIPLES, "orders": 2, "peak_bytes": peak,
            "edits": [row._asdict() for row in rows]}  # fmt: skip


def _line(row: Measured) -> str:
    changed = "-" if row.changed is None else f"{row.changed:,}"
    spent = f"{row.seconds:7.2f} s ({row.cpu_seconds:6.2f} s of processor)"
    return f"{row.edit:22} {row.calls:>8,} calls {spent} {changed:>7} changed {row.bytes_written:>12,} bytes"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 pairs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    figures = run(5_000 if arguments.quick else 100_000)
    if arguments.json:
        write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
