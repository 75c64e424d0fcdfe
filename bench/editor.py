"""How long the page of `ratify constitution edit` waits for the effect of an edit, at 10,000 pairs × 16 principles.

    python -m bench.editor [--quick] [--json PATH]

Pairs and verdicts in both orders are those of `bench/relabel.py`, in memory as the page holds them. One figure is what
happens between a slider's movement and the answer: the form's changes become YAML, the YAML a constitution, and labels
before and after are added up and compared. A second is the answer while typing: lint, difference and version. Nothing
is asked of a judge.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench.relabel import PRINCIPLES, MadeUp, make_pairs, text_of
from constitutions.load import parse_constitution
from flows.context import RunContext
from flows.editor.drafts import Draft, PrincipleDraft
from flows.editor.edited_file import EditedFile
from flows.editor.live_run import LiveRun
from flows.editor.server import Editor
from ratify.config import load_config
from ratify.files import write_json
from ratify.lineage import ROOT

REPEATS = 7


def draft(text: str, path: Path, weight: float) -> Draft:
    """The form with one weight moved."""
    principles = parse_constitution(text, path).principles
    rows = [
        PrincipleDraft(origin=position, id=each.id, text=each.text, weight=weight if position == 3 else each.weight,
                       tier=each.tier, severity=each.severity, status=each.status)
        for position, each in enumerate(principles)
    ]  # fmt: skip
    return Draft(baseline=text, base=text, principles=tuple(rows))


def run(count: int) -> dict[str, Any]:
    """Median seconds of the two answers on `count` pairs."""
    with tempfile.TemporaryDirectory() as place:
        config = load_config(ROOT / "configs" / "demo.toml", [f"run.dir={place}"])
        path = Path(place) / "constitution.yaml"
        path.write_text(text_of(), encoding="utf-8")
        pairs, prompts = make_pairs(count)
        with MadeUp(RunContext(config), pairs, prompts) as bench:
            bench.fill(parse_constitution(text_of(), path))
            live = LiveRun(bench)
            started = time.perf_counter()
            live.start(parse_constitution(text_of(), path))
            live.ready.wait()
            reading = time.perf_counter() - started
            editor = Editor(EditedFile(path), live)
            drafts = [draft(text_of(), path, 1.1 + 0.3 * step) for step in range(REPEATS)]
            slider = _median(lambda each: json.dumps(editor.what_if(each)), drafts)
            typing = _median(lambda each: json.dumps(editor.check(each)), drafts)
    return {
        "pairs": count,
        "principles": PRINCIPLES,
        "orders": 2,
        "reading_s": reading,
        "what_if_s": slider,
        "check_s": typing,
    }


def _median(work: Callable[[Draft], str], drafts: list[Draft]) -> float:
    seconds = []
    for each in drafts:
        started = time.perf_counter()
        work(each)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 pairs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    figures = run(2_000 if arguments.quick else 10_000)
    print(f"{figures['pairs']:,} pairs × {PRINCIPLES} principles × 2 orders")
    print(f"reading kept columns at the start  {figures['reading_s']:6.2f} s")
    print(f"what-if after a slider has moved   {figures['what_if_s']:6.2f} s")
    print(f"lint, difference, version          {figures['check_s']:6.2f} s")
    if arguments.json:
        write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
