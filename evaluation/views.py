"""The report's figures as rows to show: what the page and the terminal have in common.

Rows carry finished text and finished plots; templates only place them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from evaluation.catalog import (
    COMPARED,
    Quantity,
    quantity,
    quantity_of,
    show,
    show_interval,
    sibling,
    split_key,
    spoken,
    title,
)
from evaluation.charts import Mark, Scale, axis, interval_row, nice_scale, share_scale
from evaluation.compliance import ALL
from evaluation.intervals import Estimate
from evaluation.report import EvaluationReport

SUITES = ("capability", "sycophancy")
"""Things that are measured on items with known answers."""


class Cell(NamedTuple):
    """A value, its interval and what is worth a colour: `good`, `bad` or nothing."""

    value: str
    interval: str = ""
    tone: str = ""
    spread: str = ""
    """How much it varies from seed to seed, where the policy was sampled again."""


class Comparison(NamedTuple):
    """A figure of both policies."""

    title: str
    label: str
    """Short, for a plot whose heading says the rest."""
    note: str
    old: Cell
    new: Cell
    change: Cell | None
    marks: tuple[Mark, Mark]
    of: Quantity


class Single(NamedTuple):
    """A figure of one kind, such as a win rate or a KL."""

    title: str
    note: str
    cell: Cell
    n: int
    clusters: int
    mark: Mark
    of: Quantity
    extra: tuple[str, ...] = ()


class PlotRow(NamedTuple):
    """A labelled line of a plot."""

    label: str
    svg: Markup


class Plot(NamedTuple):
    """Rows on one scale, and the scale's ticks under them."""

    rows: tuple[PlotRow, ...]
    axis: Markup


def cell(estimate: Estimate, of: Quantity, *, signed: bool = False, tone: str = "") -> Cell:
    """An estimate as text."""
    return Cell(show(estimate.value, of, signed=signed), show_interval(estimate, of, signed=signed), tone)


def comparisons(report: EvaluationReport, things: Iterable[str] | None = None) -> list[Comparison]:
    """Every figure of both policies, in the order of `things` (all: compliance first), `all` before its parts."""
    wanted = list(things) if things is not None else list(COMPARED)
    rows = []
    for key in report.metrics:
        parts = split_key(key)
        if parts.stat == "new" and parts.thing in wanted and sibling(key, "old") in report.metrics:
            rows.append((wanted.index(parts.thing), key))
    return [_comparison(report, key) for _, key in sorted(rows, key=lambda row: row[0])]


def headline(report: EvaluationReport) -> list[Comparison]:
    """The comparisons of the first screen: every property at once, not one by one."""
    names = {title(thing, ALL if thing == "compliance" else "") for thing in COMPARED}
    return [*(row for row in comparisons(report) if row.title in names), *wholes(report)]


def wholes(report: EvaluationReport) -> list[Comparison]:
    """What the suites say of all their items, without the tags."""
    return [row for thing in SUITES for row in comparisons(report, [thing]) if row.title == title(thing)]


def singles(report: EvaluationReport, stage: str, thing: str, stat: str, extra: Sequence[str] = ()) -> list[Single]:
    """The figures `stage/thing.*/stat`, the whole before its parts, with counts named in `extra` beside them."""
    keys = [key for key in report.metrics if _is(key, stage, thing, stat)]
    keys.sort(key=lambda key: split_key(key).part not in ("", ALL))
    return [_single(report, key, extra) for key in keys]


def plot_comparisons(rows: Sequence[Comparison]) -> Plot | None:
    """Old and new dots of shares on one scale from 0 to 100 %."""
    if not rows:
        return None
    scale = share_scale()
    drawn = tuple(PlotRow(row.label, interval_row(row.marks, scale)) for row in rows)
    return Plot(drawn, axis(scale, tick_labels(scale, rows[0].of)))


def plot_alone(row: Comparison) -> Plot:
    """Old and new dots of one figure on a scale of its own."""
    scale = nice_scale(_ends([mark.estimate for mark in row.marks]), **_limits(row.of))
    return Plot((PlotRow(row.title, interval_row(row.marks, scale)),), axis(scale, tick_labels(scale, row.of)))


def plot_singles(rows: Sequence[Single], labels: Sequence[str], reference: float | None = None) -> Plot | None:
    """Dots on one scale: from 0 to 100 % for shares, from 0 or below for the rest."""
    if not rows:
        return None
    of = rows[0].of
    ends = _ends([row.mark.estimate for row in rows])
    scale = share_scale() if of.unit == "share" else nice_scale([0.0, *ends], floor=min(0.0, *ends))
    drawn = tuple(
        PlotRow(label, interval_row([row.mark], scale, reference=reference))
        for row, label in zip(rows, labels, strict=True)
    )
    return Plot(drawn, axis(scale, tick_labels(scale, of)))


def part_label(row_title: str) -> str:
    """What follows the colon of a title, or `overall`."""
    return row_title.partition(": ")[2] or "overall"


def tick_labels(scale: Scale, of: Quantity) -> list[str]:
    """Round labels for a scale's ticks."""
    factor = 100 if of.unit == "share" else 1
    gap = factor * (scale.ticks[1] - scale.ticks[0]) if len(scale.ticks) > 1 else 1.0
    exact = (digits for digits in range(6) if abs(gap * 10**digits - round(gap * 10**digits)) < 1e-6)
    decimals = next(exact, 6)
    return [show(tick, of._replace(decimals=decimals)) for tick in scale.ticks]


def tone(change: Estimate, better: str) -> str:
    """`good` or `bad` when the whole interval lies on one side of zero and a side is better."""
    if better == "neither" or change.low is None or change.high is None or change.low <= 0 <= change.high:
        return ""
    return "good" if (change.low > 0) == (better == "up") else "bad"


def _comparison(report: EvaluationReport, key: str) -> Comparison:
    parts = split_key(key)
    of, name = quantity(parts.thing), title(parts.thing, parts.part)
    old, new = report.metrics[sibling(key, "old")], report.metrics[key]
    change = report.metrics.get(sibling(key, "difference"))
    return Comparison(
        title=name,
        label=_label(parts.thing, parts.part) or name,
        note=of.note,
        old=cell(old, of),
        new=cell(new, of)._replace(spread=_spread(report, key, of)),
        change=None if change is None else cell(change, of, signed=True, tone=tone(change, of.better)),
        marks=(_mark("old", old, of), _mark("new", new, of)),
        of=of,
    )


def _label(thing: str, part: str) -> str:
    if part != ALL:
        return spoken(part)
    return "every property" if thing == "compliance" else "all items"


def _spread(report: EvaluationReport, key: str, of: Quantity) -> str:
    found = report.repeated_samples.get(key)
    digits = of._replace(decimals=of.decimals + 1)
    return f"±\N{NO-BREAK SPACE}{show(found.spread, digits, unit=False)} between seeds" if found else ""


def _single(report: EvaluationReport, key: str, extra: Sequence[str]) -> Single:
    parts, found = split_key(key), report.metrics[key]
    of, name = quantity_of(parts), title(parts.thing, parts.part)
    counts = tuple(str(report.counts.get(sibling(key, count), "")) for count in extra)
    return Single(name, of.note, cell(found, of), found.n, found.clusters, _mark("one", found, of), of, counts)


def _mark(series: str, found: Estimate, of: Quantity) -> Mark:
    prefix = "" if series == "one" else f"{spoken(series)} "
    return Mark(found, series, f"{prefix}{show(found.value, of)}, interval {show_interval(found, of)}")


def _is(key: str, stage: str, thing: str, stat: str) -> bool:
    parts = split_key(key)
    return (parts.stage, parts.thing, parts.stat) == (stage, thing, stat)


def _ends(estimates: Sequence[Estimate]) -> list[float]:
    return [end for found in estimates for end in (found.value, found.low, found.high) if end is not None]


def _limits(of: Quantity) -> dict[str, float]:
    return {"floor": 0.0, "ceiling": 1.0} if of.unit == "share" else {"floor": 0.0}
