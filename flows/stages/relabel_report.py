"""The flip report's figures, gathered from labels before and after an edit into one JSON object.

`judges/flips.py` computes, `evaluation/flip_report.py` shows; here the two meet, with the texts of the pairs that moved
most, gold where there is some, and what was trained on the old labels.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from constitutions.diff import ConstitutionDiff, diff_constitutions
from constitutions.hashes import constitution_hash
from constitutions.schema import Constitution
from flows.stages.relabel import Bench, tags_of
from judges import flips
from judges.aggregate import OUTCOME_NAMES, Aggregated, Evidence, Outcomes
from ratify.errors import InputError
from ratify.intervals import wilson
from ratify.lineage import now
from ratify.run_store import Manifest
from ratify.templates import conversation_text

SHOWN = 25
"""Changed pairs that the report shows in full."""
MOVERS_SHOWN = 3
COUPLES_SHOWN = 100
SIDES = {"a": 1, "b": -1, "tie": 0}
DOWNSTREAM = {"label": ("label", "reward_model", "policy", "evaluate"), "revised": ("revised", "supervised")}
"""Stages whose results rest on the labels of one stage, in order."""


class Side(NamedTuple):
    """One constitution's labels."""

    constitution: Constitution
    evidence: Evidence
    made: Aggregated


class Edited(NamedTuple):
    """The labels of the same pairs before and after an edit."""

    before: Side
    after: Side
    diff: ConstitutionDiff
    kinds: NDArray[np.int8]
    shifts: flips.Attribution


def sides(bench: Bench, old: Constitution, new: Constitution) -> Edited:
    """Both constitutions' labels, as far as verdicts are known."""
    before, after = (_side(bench, each) for each in (old, new))
    diff = diff_constitutions(old, new)
    shifts = flips.attribute((before.made, old), (after.made, new), diff.renamed)
    return Edited(before, after, diff, flips.changes(before.made, after.made), shifts)


def _side(bench: Bench, constitution: Constitution) -> Side:
    evidence = bench.evidence(constitution)
    return Side(constitution, evidence, bench.aggregate(constitution, evidence))


def flip_figures(
    bench: Bench, edited: Edited, *, calls: Mapping[str, Any], gold: Outcomes | None, noise: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Everything that the flip report shows, as JSON."""
    before, after, kinds = edited.before, edited.after, edited.kinds
    changed = flips.outcome_changed(kinds)
    agreement = None if gold is None else flips.gold_agreement(before.made.outcome, after.made.outcome, gold)
    tags = {tag: np.array(rows, dtype=np.intp) for tag, rows in sorted(tags_of(bench).items())}
    vetoed = before.made.vetoed, after.made.vetoed
    return {
        "run": str(bench.context.run.path),
        "written": now(),
        "protocol": bench.judge.protocol,
        "judge": bench.fingerprint,
        "principles_per_pair": bench.per_pair or "all",
        "old": _named(before.constitution),
        "new": _named(after.constitution),
        "edits": [_edit(change) for change in edited.diff.changes],
        "calls": dict(calls),
        "pairs": len(kinds),
        "changed": int(changed.sum()),
        "changes": dict(zip(flips.CHANGES, np.bincount(kinds, minlength=len(flips.CHANGES)).tolist(), strict=True)),
        "vetoed": vetoes(*vetoed),
        "by_tag": flips.by_group(kinds, tags),
        "by_tier": flips.by_group(kinds, _tiers(edited, changed)),
        "principles": _principles(bench, edited, changed),
        **_relations(after.made),
        "gold": None if agreement is None else agreement._asdict(),
        "noise": noise,
        "stale": stale(bench, after.constitution) if _labels_differ(edited) else [],
        "flips": [shown(bench, edited, int(row)) for row in largest(edited, changed)],
    }  # fmt: skip


def demo_gold(bench: Bench) -> Outcomes:
    """Gold that the demo world's oracle computes: the reply that does better by all of its properties."""
    from demo.oracle import assess, utility

    questions = {name: prompt.messages[-1].content for name, prompt in bench.prompts.items()}
    worth = {name: utility(assess(questions[each.prompt_id], each.text)) for name, each in bench.completions.items()}
    return np.array([np.sign(worth[a.id] - worth[b.id]) for a, b in bench.pairs]).astype(np.int8)


def read_gold(path: Path, bench: Bench) -> Outcomes:
    """Gold from JSON lines with `a_id`, `b_id` and `better` (a, b or tie); pairs that the file lacks have none."""
    known: dict[tuple[str, str], int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"gold file {path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            a, b, side = row["a_id"], row["b_id"], SIDES[row["better"]]
        except (ValueError, KeyError, TypeError):
            form = '{"a_id": "…", "b_id": "…", "better": "a"}'
            raise InputError.at(path, number, f"not gold; a line is of the form {form}, or better b or tie") from None
        known[a, b], known[b, a] = side, -side
    found = [known.get((a.id, b.id), 0) for a, b in bench.pairs]
    if not any(found):
        raise InputError(f"gold file {path} decides none of the {len(found)} pairs of {bench.context.run.path}")
    return np.array(found, dtype=np.int8)


def stale(bench: Bench, new: Constitution) -> list[dict[str, str]]:
    """Datasets, models and reports of this run that rest on labels of another constitution."""
    run, found = bench.context.run, []
    for number, (root, names) in itertools.product(run.rounds(), DOWNSTREAM.items()):
        labels: Manifest | None = run.stage(root, number).manifest()
        if labels is None or labels.lineage.get("constitution") == constitution_hash(new):
            continue
        for stage in (run.stage(name, number) for name in names):
            manifest = stage.manifest()
            if manifest is not None:
                found.append({"stage": stage.stage, "path": str(stage.path), "finished": manifest.finished})
    return found


def flip_rate(kinds: NDArray[np.int8]) -> dict[str, Any]:
    """Share of labels with another outcome, with Wilson's 95 % interval."""
    changed, count = int(flips.outcome_changed(kinds).sum()), len(kinds)
    low, high = wilson(changed, count)
    return {"rate": changed / count if count else None, "low": low, "high": high, "pairs": count, "changed": changed}


def vetoes(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, int]:
    """Pairs that a hard principle decides."""
    return {"before": int(before.sum()), "after": int(after.sum()), "new": int((after & ~before).sum())}


def _named(constitution: Constitution) -> dict[str, str]:
    return {"id": constitution.id, "version": constitution.version, "hash": constitution_hash(constitution)}


def _edit(change: Any) -> dict[str, Any]:
    return {
        "kind": change.kind, "principle": change.principle, "field": change.field,
        "class": str(change.field_class), "cost": change.cost,
    }  # fmt: skip


def _labels_differ(edited: Edited) -> bool:
    old, new = edited.before.made, edited.after.made
    return not np.array_equal(old.margin, new.margin, equal_nan=True) or not np.array_equal(old.outcome, new.outcome)


def _tiers(edited: Edited, changed: NDArray[np.bool_]) -> dict[str, NDArray[np.intp]]:
    """Changed pairs by the tier of their mover."""
    known = {each.id: each.tier or "no tier" for side in (edited.before, edited.after) for each in side.made.principles}
    tier = np.array([known[name] for name in edited.shifts.names])[edited.shifts.mover]
    return {str(name): np.flatnonzero((tier == name) & changed) for name in np.unique(tier[changed])}


def _principles(bench: Bench, edited: Edited, changed: NDArray[np.bool_]) -> list[dict[str, Any]]:
    after, shifts = edited.after, edited.shifts
    decides = flips.decisive(after.made, after.evidence, after.constitution, bench.judge.protocol)
    moved = np.bincount(shifts.mover[changed], minlength=len(shifts.names))
    mean = np.abs(shifts.shift).mean(axis=0) if len(shifts.shift) else np.zeros(len(shifts.names))
    rows = []
    for index, name in enumerate(shifts.names):
        row: dict[str, Any] = {"principle": name, "moved": int(moved[index]), "mean_shift": float(mean[index])}
        if index < len(after.made.principles):
            principle = after.made.principles[index]
            asked = int(after.evidence.asked[:, index].sum())
            decided = int(after.evidence.by_checks[:, index].sum())
            row |= {"tier": principle.tier, "weight": principle.weight, "severity": principle.severity,
                    "applies": asked, "by_checks": decided, "decisive": decides[index], "removed": False}  # fmt: skip
        else:
            row |= {
                "tier": None,
                "weight": None,
                "severity": None,
                "applies": 0,
                "by_checks": 0,
                "decisive": 0,
                "removed": True,
            }
        rows.append(row)
    return rows


def _relations(made: Aggregated) -> dict[str, Any]:
    found, names = flips.relations(made), [principle.id for principle in made.principles]
    couples = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    conflicts = [
        {"one": names[i], "other": names[j], "pairs": int(found.both[i, j]), "opposite": float(found.conflict[i, j])}
        for i, j in couples
        if found.both[i, j]
    ]
    redundant = [
        {"one": names[i], "other": names[j], "kappa": float(found.kappa[i, j])}
        for i, j in couples
        if found.kappa[i, j] > flips.REDUNDANT
    ]
    worst = sorted(conflicts, key=lambda each: -float(str(each["opposite"])))[:COUPLES_SHOWN]
    return {"conflicts": worst, "redundant": redundant[:COUPLES_SHOWN]}


def largest(edited: Edited, changed: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The changed pairs whose probability moved most, flips before ties."""
    rows = np.flatnonzero(changed)
    size = np.abs(np.nan_to_num(edited.after.made.probability - edited.before.made.probability))
    return np.asarray(rows[np.lexsort((-size[rows], edited.kinds[rows]))][:SHOWN])


def shown(bench: Bench, edited: Edited, row: int) -> dict[str, Any]:
    """One pair with its texts, its label before and after, and what moved it."""
    a, b = bench.pairs[row]
    shift = edited.shifts.shift[row]
    movers = [index for index in np.argsort(-np.abs(shift), kind="stable")[:MOVERS_SHOWN] if shift[index]]
    return {
        "prompt": conversation_text(bench.prompts[a.prompt_id].messages),
        "prompt_id": a.prompt_id, "a_id": a.id, "b_id": b.id, "a": a.text, "b": b.text,
        "change": flips.CHANGES[edited.kinds[row]],
        "before": _outcome(edited.before.made, row),
        "after": _outcome(edited.after.made, row),
        "movers": [{"principle": edited.shifts.names[index], "shift": float(shift[index])} for index in movers],
    }  # fmt: skip


def _outcome(made: Aggregated, row: int) -> dict[str, Any]:
    probability = float(made.probability[row])
    return {
        "outcome": OUTCOME_NAMES[int(made.outcome[row])],
        "probability": None if np.isnan(probability) else probability,
        "vetoed": bool(made.vetoed[row]),
    }
