"""A run held in memory, so that the effect of other weights, tiers and thresholds is known while a slider moves.

Labels before and after come from the same arrays and functions as those of `ratify what-if`, and no judge is asked.
What only a judge can say is not guessed: a principle whose text or scope is new is counted with the verdicts of its old
text, or left out when it has none, and is named. `ratify plan`'s figures come from here too, with a sample of 0.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from constitutions.diff import diff_constitutions
from constitutions.lint_structure import Surroundings
from constitutions.schema import Constitution, Principle
from flows.stages.relabel import MOST_PRINCIPLES, Bench, Held, tags_of
from flows.stages.relabel_plan import make_plan
from flows.stages.relabel_report import Edited, Side, largest, shown, vetoes
from judges import flips
from judges.aggregate import Aggregated, Bools, Evidence, Floats, Outcomes, contributions
from judges.columns import KEY, Column
from ratify.canonical import digest
from ratify.errors import ConstitutionError, InputError, RatifyError, StoreError

PAIRS_SHOWN = 12


class Known(NamedTuple):
    """What is known by a constitution's active principles, and where it is not of their own words."""

    evidence: Evidence
    stood_in: tuple[str, ...]
    """Principles that are counted with the verdicts of their old text or scope."""
    left_out: tuple[str, ...]
    """Principles without verdicts."""


class LiveRun:
    """The pairs, verdicts and gold of one run. Reading its verdicts takes a while: `start` does it aside."""

    def __init__(self, bench: Bench, gold: Outcomes | None = None) -> None:
        """Take a run's open bench, and which reply of each pair is known to be better."""
        self.bench = bench
        self.gold = gold
        self.fault = ""
        self.ready = threading.Event()
        self._tags = {tag: np.array(rows, dtype=np.intp) for tag, rows in sorted(tags_of(self.bench).items())}
        self._one_at_a_time = threading.Lock()

    def start(self, constitution: Constitution | None) -> None:
        """Begin to read what is known by a constitution's principles."""
        threading.Thread(target=self._read, args=(constitution,), daemon=True).start()

    def _read(self, constitution: Constitution | None) -> None:
        try:
            with self._one_at_a_time:
                for principle in constitution.principles if constitution else ():
                    if principle.status != "retired":
                        self.bench.column(principle)
                if constitution:
                    self._keep(constitution)
        except RatifyError as error:
            self.fault = str(error)
        finally:
            self.ready.set()

    def _keep(self, constitution: Constitution) -> None:
        """Keep what was read for the next start, unless another process works on the run."""
        with contextlib.suppress(StoreError), self.bench.context.run.lock():
            self.bench.keep_columns(constitution)

    @property
    def surroundings(self) -> Surroundings:
        """What lint may know of the run."""
        config = self.bench.context.config
        prompts = tuple(self.bench.prompts.values())
        judge = "" if config.judge.kind == "rules" else config.judge.model
        return Surroundings(prompts=prompts, judge_model=judge, policy_model=config.policy.model)

    def describe(self) -> dict[str, Any]:
        """The run in a few words."""
        config = self.bench.context.config
        judge = "rules" if config.judge.kind == "rules" else config.judge.model
        return {"path": str(self.bench.context.run.path), "pairs": len(self.bench.pairs), "judge": judge}

    def what_if(self, old: Constitution, new: Constitution) -> dict[str, Any]:
        """What an edit would do to the labels, as far as verdicts are known; asks nobody.

        Raises:
            InputError: nothing at all is known, or there are too many principles.
        """
        if len(new.active) > MOST_PRINCIPLES:
            raise ConstitutionError(f"what-if takes at most {MOST_PRINCIPLES:,} active principles; retire some")
        with self._one_at_a_time:
            edited, known = self._sides(old, new)
            if len(known.left_out) == len(new.active):
                raise InputError(
                    f"{self.bench.context.run.path} holds no verdicts of its judge by these principles: label it first "
                    "(`ratify label`, `ratify apply`), or start the page with --against and the version it was "
                    "labelled with"
                )
            changed = flips.outcome_changed(edited.kinds)
            before, after = edited.before.made, edited.after.made
            gold = None if self.gold is None else flips.gold_agreement(before.outcome, after.outcome, self.gold)
            moved = np.bincount(edited.shifts.mover[changed], minlength=len(edited.shifts.names))
            return {
                "pairs": len(edited.kinds),
                "changed": int(changed.sum()),
                "changes": dict(zip(flips.CHANGES, np.bincount(edited.kinds, minlength=8).tolist(), strict=True)),
                "vetoed": vetoes(before.vetoed, after.vetoed),
                "by_tag": flips.by_group(edited.kinds, self._tags),
                "gold": None if gold is None else gold._asdict(),
                "moved": dict(zip(edited.shifts.names, moved.tolist(), strict=True)),
                "balance": balance(edited.before, edited.after),
                "flips": [shown(self.bench, edited, int(row)) for row in largest(edited, changed)[:PAIRS_SHOWN]],
                "stood_in": known.stood_in,
                "left_out": known.left_out,
            }

    def plan(self, old: Held, new: Held) -> dict[str, Any]:
        """The figures of `ratify plan --sample 0`, with the cost of each principle; asks nobody."""
        with self._one_at_a_time:
            self.bench.forget_incomplete()
            figures = make_plan(self.bench, old, new, sample=0, price=self.bench.price)
        return {**figures, "by_principle": costs_by_principle(figures)}

    def _sides(self, old: Constitution, new: Constitution) -> tuple[Edited, Known]:
        for principle in old.active:
            self.bench.column(principle)
        diff = diff_constitutions(old, new)
        origins = {each.id: each for each in old.principles}
        came_from = {each.id: origins.get(diff.renamed.get(each.id, each.id)) for each in new.active}
        were, are = self._known(old, {}), self._known(new, came_from)
        before, after = (self._side(*each) for each in ((old, were), (new, are)))
        shifts = flips.attribute((before.made, old), (after.made, new), diff.renamed)
        return Edited(before, after, diff, flips.changes(before.made, after.made), shifts), are

    def _side(self, constitution: Constitution, known: Known) -> Side:
        return Side(constitution, known.evidence, self.bench.aggregate(constitution, known.evidence))

    def _known(self, constitution: Constitution, came_from: Mapping[str, Principle | None]) -> Known:
        """Each active principle with its own column, its old one, or none."""
        choices = [(self._remembered(each), self._remembered(came_from.get(each.id))) for each in constitution.active]
        wanted = self.bench.evidence_in([own or old or self._silent() for own, old in choices], constitution).asked
        columns, stood_in, left_out = [], [], []
        for index, (principle, (own, old)) in enumerate(zip(constitution.active, choices, strict=True)):
            if own is not None and _says_enough(own, wanted[:, index]):
                columns.append(own)
            elif old is not None and _says_enough(old, wanted[:, index]):
                columns.append(old)
                stood_in.append(principle.id)
            else:
                columns.append(self._silent())
                left_out.append(principle.id)
        return Known(self.bench.evidence_in(columns, constitution), tuple(stood_in), tuple(left_out))

    def _remembered(self, principle: Principle | None) -> Column | None:
        return None if principle is None else self.bench.remembered(principle)

    def _silent(self) -> Column:
        count = len(self.bench.pairs)
        nobody = np.zeros((count, 2), dtype=KEY)
        return Column(np.zeros(count, dtype=np.bool_), np.full((count, 2), np.nan), nobody, np.zeros(count, np.int8))


def _says_enough(column: Column, wanted: Bools) -> bool:
    """Whether at least half of what is wanted (N,) is known: the sample of a plan alone says too little."""
    return int((column.lacks & wanted).sum()) * 2 <= int(wanted.sum())


def balance(before: Side, after: Side) -> dict[str, list[dict[str, Any]]]:
    """How much of what moves the labels comes from each tier, and from each tag that principles are scoped to.

    A principle's part is Σ |its share of the margin| over all pairs (`aggregate.contributions`); parts are given as
    shares of their sum, from 0 to 1. A principle with two tags counts for both.
    """
    old, new = (_parts(side.made, side.constitution) for side in (before, after))
    found: dict[str, list[dict[str, Any]]] = {}
    for by in ("tier", "tag"):
        names = list(dict.fromkeys([*old[by], *new[by]]))
        found[by] = [
            {"name": name, "before": old[by].get(name, 0.0), "after": new[by].get(name, 0.0)} for name in names
        ]
    return found


def _parts(made: Aggregated, constitution: Constitution) -> dict[str, dict[str, float]]:
    size: Floats = np.abs(np.nan_to_num(contributions(made, constitution))).sum(axis=0)
    total = float(size.sum()) or 1.0
    tiers = dict.fromkeys([*constitution.tiers, "no tier"], 0.0)
    tags: dict[str, float] = {}
    for principle, part in zip(made.principles, size.tolist(), strict=True):
        tiers[principle.tier or "no tier"] += part / total
        for tag in principle.applies_to.tags:
            tags[tag] = tags.get(tag, 0.0) + part / total
    if not any(principle.tier is None for principle in made.principles):
        del tiers["no tier"]
    return {"tier": tiers, "tag": tags}


def costs_by_principle(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calls, tokens and minutes of each principle to be judged; the last two are None where nothing was observed."""
    rate = figures["observed"]
    rows = []
    for name, calls in figures["calls_by_principle"].items():
        tokens = None if rate is None else round(calls * (rate["prompt_tokens"] + rate["completion_tokens"]))
        minutes = None if rate is None else calls / rate["calls_per_s"] / 60
        rows.append({"principle": name, "calls": calls, "tokens": tokens, "minutes": minutes})
    return rows


def held(constitution: Constitution, text: str, path: Path) -> Held:
    """A constitution that was never a file, in the form that a plan takes."""
    return Held(path, digest(text), constitution)
