"""Relabel a run: ask for the verdicts that are missing, then write labels, preference data and the flip report.

The folder is `round-NNN/relabel/<constitution's hash>/`; its manifest comes last. A constitution is read once; if its
file changes meanwhile, nothing is written. Verdicts are stored as they come, so a killed `apply` goes on where it was.
The run's own labels stay as they are: `ratify run` with the new constitution takes the same verdicts over.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from constitutions.hashes import constitution_hash
from evaluation.flip_report import write_flip_report
from flows.stages.judging import DECIDED
from flows.stages.label import objectives_table, writing_labels
from flows.stages.panel_judging import check_panel, panel_lineage
from flows.stages.relabel import Bench, Held, counts, flatten, strata_of
from flows.stages.relabel_report import Edited, demo_gold, flip_figures, flip_rate, read_gold, sides
from judges import flips
from judges.aggregate import Outcomes, aggregate
from judges.dataset import write_table
from judges.label_table import objective_rows
from judges.labels import split_labels
from judges.questions import write_questions
from judges.statistics import LabellingStatistics
from ratify.errors import InputError
from ratify.run_store import Manifest, StageStore

OBJECTIVES: tuple[Literal["tier", "tag"], ...] = ("tier", "tag")


class Applied(NamedTuple):
    """What became of an edit."""

    stage: StageStore
    manifest: Manifest
    before: bool
    """It had been applied before, and nothing was done."""


def apply_edit(bench: Bench, old: Held, new: Held, *, gold: Path | None = None, noise: int = 0) -> Applied:
    """Do everything that is missing; call it under the run's lock."""
    name = f"relabel/{constitution_hash(new.constitution)[:12]}"
    stage = bench.context.stage(name)
    lineage = _lineage(bench, old, new, gold, noise)
    done = stage.complete_for(lineage)
    if done:
        return Applied(stage, done, before=True)
    started = time.monotonic()
    known = gold_of(bench, gold)
    if noise and len(bench.judges) > 1:
        raise InputError("the noise floor is measured for one judge, and a panel labels this run; leave out --noise")
    if flatten(bench.missing(new.constitution)):
        check_panel(bench.context)
    statistics = bench.ask_missing(new.constitution)
    edited = sides(bench, old.constitution, new.constitution)
    floor = noise_floor(bench, edited, noise) if noise else None
    calls = _calls(bench, new, statistics)
    figures = flip_figures(bench, edited, calls=calls, gold=known, noise=floor)
    old.verify()
    new.verify()
    stage.begin(lineage)
    _write_labels(bench, edited, stage.path)
    write_flip_report(stage.path, figures)
    metrics = calls | {f"relabel/labels/{kind}": count for kind, count in figures["changes"].items()}
    manifest = stage.finish(lineage, metrics, time.monotonic() - started)
    bench.keep_columns(old.constitution, new.constitution)
    return Applied(stage, manifest, before=False)


def what_if(bench: Bench, old: Held, new: Held, *, gold: Path | None = None) -> dict[str, Any]:
    """The same figures without a single call.

    Raises:
        InputError: a verdict is missing.
    """
    lacking = counts(bench.missing(new.constitution))
    if lacking:
        raise InputError(
            f"{new.path} needs {lacking.total():,} verdicts that are not stored (principles: "
            f"{', '.join(sorted(lacking))}); what-if asks nobody: see `ratify plan`, or use `ratify apply`"
        )
    edited = sides(bench, old.constitution, new.constitution)
    figures = flip_figures(bench, edited, calls={"label/calls/count": 0}, gold=gold_of(bench, gold), noise=None)
    bench.keep_columns(old.constitution, new.constitution)
    return figures


def gold_of(bench: Bench, path: Path | None) -> Outcomes | None:
    """Gold from a file, or from the world that the configuration names."""
    if path is not None:
        return read_gold(path, bench)
    return demo_gold(bench) if bench.context.config.evaluation.world == "demo" else None


def noise_floor(bench: Bench, edited: Edited, size: int) -> dict[str, Any] | None:
    """Outcomes that change when unchanged principles are judged once more on some pairs; None without such."""
    rows = flips.stratified_sample(strata_of(bench), size, bench.context.config.run.seed + 1)
    evidence, rules = edited.after.evidence.rows(rows), edited.after.constitution
    same = np.array([each.id not in edited.diff.rejudged for each in rules.active], dtype=np.bool_)
    wanted = np.zeros((len(bench.pairs), len(rules.active)), dtype=np.bool_)
    wanted[rows] = evidence.asked & (evidence.decided == 0) & same
    sheet = write_questions(bench.prompts, bench.pairs, rules.active, bench.judge, wanted)
    if not sheet.questions:
        return None
    with tempfile.TemporaryDirectory() as folder:
        again = bench.judges[0].ask_again(sheet.questions, Path(folder))
    z = evidence.z.copy()
    for place, row in enumerate(rows):
        for index, principle in enumerate(rules.active):
            for side, key in enumerate(sheet.keys[row].get(principle.id, ())):
                z[place, index, side] = again.get(key, z[place, index, side])
    protocol = bench.judge.protocol
    once = aggregate(evidence, rules, protocol)
    return flip_rate(flips.changes(once, aggregate(evidence._replace(z=z), rules, protocol)))


def _lineage(bench: Bench, old: Held, new: Held, gold: Path | None, noise: int) -> dict[str, Any]:
    return {
        "pairs": bench.identity,
        "old": constitution_hash(old.constitution),
        "constitution": constitution_hash(new.constitution),
        "judge": bench.judge.fingerprint,
        **panel_lineage(bench.context),
        "principles_per_pair": bench.per_pair,
        **_calibrators(bench),
        "gold": gold.read_text(encoding="utf-8") if gold and gold.is_file() else None,
        "noise": noise,
    }


def _calibrators(bench: Bench) -> dict[str, Any]:
    found = [each.calibrators.hash for each in bench.judges if each.calibrators]
    return {"calibrator": found[0] if len(bench.judges) == 1 else found} if found else {}


def _calls(bench: Bench, new: Held, statistics: LabellingStatistics) -> dict[str, Any]:
    """The asking's figures, with reuse counted over everything that the labels rest on."""
    evidence = bench.evidence(new.constitution)
    judged = evidence.asked & (evidence.decided == 0)
    needed = sum(
        len(set(np.unique(bench.column(principle).keys[judged[:, index]]).tolist()) - {b""})
        for index, principle in enumerate(evidence.principles)
    )
    figures = {"label/verdicts/needed": needed, "label/verdicts/reused": needed - statistics.calls,
               DECIDED: int(evidence.by_checks.sum())}  # fmt: skip
    return statistics.metrics() | bench.money() | figures


def _write_labels(bench: Bench, edited: Edited, folder: Path) -> None:
    """What the stage would write, and both tables of soft labels by objective whether it would or not."""
    constitution, asked_for = edited.after.constitution, bench.context.config.labels.objectives
    found = bench.labelled(constitution, edited.after.evidence, edited.after.made)
    with writing_labels(folder, constitution) as files:
        files.add(found, bench.prompts)
        for by in OBJECTIVES:
            split = split_labels(found, constitution, bench.judge.protocol, by)
            if by in asked_for:
                files.add_objectives(split, by, bench.prompts)
            elif split:
                write_table(folder / objectives_table(by), objective_rows(split))
