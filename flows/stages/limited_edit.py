"""An edited constitution that nobody watches: plan it, and apply it only where it stays under limits.

Counting comes first and costs nothing; only an edit whose calls and money are within the limits has a sample judged
for its flip rate, and only one whose rate is below the limit too, by the upper end of its interval, is applied. What
cannot be measured is over the limit. An edit that is held is remembered with the limits that held it, so that looking
again is quiet. Left out: who starts this (`flows/relabel_edit.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from constitutions.hashes import constitution_hash
from flows.context import RunContext
from flows.stages.kept_constitutions import FOLDER, SHORT, keep_constitution, labelled_with
from flows.stages.relabel import Bench, hold
from flows.stages.relabel_apply import apply_edit
from flows.stages.relabel_plan import make_plan
from ratify.files import write_json
from ratify.sections import PriceSection

Outcome = Literal["unchanged", "applied before", "held before", "held", "applied"]


class EditLimits(BaseModel):
    """What an edit may cost and change without a person. None asks nothing of that figure."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_calls: int | None = Field(default=5000, ge=0)
    """Judge calls, the sample's included."""
    max_money: float | None = Field(default=None, ge=0)
    """In the currency of `judge.price`."""
    max_flip_rate: float | None = Field(default=0.1, ge=0, le=1)
    """Upper end of the 95 % interval of the share of labels that change."""
    sample: int = Field(default=100, ge=0)
    """Pairs that are judged to estimate it."""


class Handled(NamedTuple):
    """What became of an edit."""

    outcome: Outcome
    constitution: str
    """Hash of the edited constitution."""
    reasons: tuple[str, ...] = ()
    """Why it was held."""
    figures: Mapping[str, Any] = MappingProxyType({})
    """The plan."""
    folder: Path | None = None
    """Where the new labels and the flip report lie."""


def handle_edit(context: RunContext, path: Path, limits: EditLimits) -> Handled:
    """Plan and perhaps apply what a file has become; takes the run's lock.

    Raises:
        ConstitutionError: the file does not load.
        InputError: nobody knows what the labels followed before.
    """
    with context.run.lock():
        new = hold(path)
        name = constitution_hash(new.constitution)
        if name == context.manifest("label").lineage["constitution"]:
            return Handled("unchanged", name)
        stage = context.stage(f"relabel/{name[:SHORT]}")
        if stage.manifest():
            return Handled("applied before", name, folder=stage.path)
        memory = context.run.path / FOLDER / f"{name[:SHORT]}.held.json"
        if _held_by_these(memory, limits):
            return Handled("held before", name)
        old = hold(labelled_with(context))
        with Bench(context) as bench:
            price = context.config.judge.price
            figures, reasons = _planned(bench, old, new, limits, price)
            if reasons:
                write_json(memory, {"limits": limits.model_dump(), "reasons": list(reasons)})
                return Handled("held", name, reasons, figures)
            applied = apply_edit(bench, old, new)
        keep_constitution(context, path)
        memory.unlink(missing_ok=True)
        return Handled("applied", name, (), figures, applied.stage.path)


def _planned(
    bench: Bench, old: Any, new: Any, limits: EditLimits, price: PriceSection | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    figures = make_plan(bench, old, new, sample=0, price=price)
    reasons = cost_reasons(figures, limits)
    if not reasons and limits.max_flip_rate is not None:
        if figures["calls"] and limits.sample:
            counted = figures["calls"]
            figures = make_plan(bench, old, new, sample=limits.sample, price=price) | {"calls": counted}
        reasons = flip_reasons(figures, limits)
    return figures, reasons


def cost_reasons(figures: dict[str, Any], limits: EditLimits) -> tuple[str, ...]:
    """Why a plan costs too much: one sentence each."""
    reasons = []
    if limits.max_calls is not None and figures["calls"] > limits.max_calls:
        reasons.append(f"it needs {figures['calls']:,} judge calls, and {limits.max_calls:,} are allowed")
    if limits.max_money is not None and figures["calls"]:
        money = figures["money"]
        if money is None:
            reasons.append("nobody knows what it costs (set judge.price), and max_money is set")
        elif money > limits.max_money:
            reasons.append(f"it costs {money:,.2f} {figures['currency']}, and {limits.max_money:,.2f} are allowed")
    return tuple(reasons)


def flip_reasons(figures: dict[str, Any], limits: EditLimits) -> tuple[str, ...]:
    """Why a plan changes too much: one sentence, or none."""
    rate = figures["flip_rate"]
    if limits.max_flip_rate is None:
        return ()
    if not rate or rate["rate"] is None:
        return ("its flip rate was not measured: give a sample, or set no limit on the flip rate",)
    most = rate["rate"] if rate["exact"] else rate["high"]
    if most > limits.max_flip_rate:
        exact = "exactly" if rate["exact"] else "up to"
        return (f"it changes {exact} {most:.1%} of the labels, and {limits.max_flip_rate:.1%} are allowed",)
    return ()


def _held_by_these(memory: Path, limits: EditLimits) -> bool:
    return memory.exists() and json.loads(memory.read_text(encoding="utf-8"))["limits"] == limits.model_dump()
