"""`rounds.html`: one offline page across rounds, a function of `RoundsReport` alone. No script, no network.

First screen: where the loop stands, the verdict of every round, and the figures that tell a collapse at a glance. Then
every metric by round with its table, what changed when, replies to read, shared phrases, label flips, reliability.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from evaluation.catalog import Quantity, quantity, quantity_of, show, show_interval, split_key, spoken, title
from evaluation.charts import nice_scale, reliability_svg
from evaluation.gate_record import MEANINGS
from evaluation.intervals import Estimate
from evaluation.pages import render_page
from evaluation.rounds_charts import EventMark, Point, by_round, ticks
from evaluation.rounds_report import RoundFigures, RoundsReport, band, worsened
from evaluation.views import tick_labels
from ratify.files import write_text

GLANCE = (
    "evaluate/compliance.all", "evaluate/win_rate.all", "evaluate/distinct_2", "evaluate/duplicates",
    "evaluate/kl_to_first", "evaluate/words", "evaluate/capability.all", "evaluate/sycophancy.all",
)  # fmt: skip
"""The first plots, by metric key without its stat; those that no round has are left out."""
SINGLES = {
    "win_rate": "rate", "win_rate_length_controlled": "rate", "kl": "k3_per_reply", "kl_to_first": "k3_per_reply",
    "told_apart": "rate", "reward_accuracy": "heldout", "people": "accuracy", "agreement": "accuracy",
}  # fmt: skip
"""Things without an old side → the stat that is drawn."""
JUDGED = {"win_rate", "win_rate_length_controlled", "agreement", "verdicts", "people", "position", "reward_accuracy"}
"""Things that a judge says: never joined across epochs."""
HALF = {"win_rate", "win_rate_length_controlled", "told_apart"}
LETTERS = {"constitution": "C", "judge": "J"}
STATES = {"REJECT": "rejected"}
GROUPS = {"loss": "Where it lost the most", "gain": "Where it gained the most", "random": "Drawn at random"}
OUTCOMES = ("new", "tie", "old", "failed")
WORST_TOLD = 4


class TableRow(NamedTuple):
    """One policy in a plot's table."""

    place: str
    gate: str
    value: str
    interval: str
    n: int


class Panel(NamedTuple):
    """A plot by round with its table."""

    title: str
    note: str
    svg: Markup
    ticks: list[tuple[float, str]]
    rows: list[TableRow]
    has_first: bool
    aa: str


def render_rounds(report: RoundsReport) -> str:
    """The page as text."""
    stems = _stems(report.rounds)
    panels = {stem: drawn for stem in stems if (drawn := panel(report, stem))}
    return render_page(
        "rounds.html.j2",
        filters={"spoken": spoken},
        report=report,
        lead=lead(report),
        told=sentences(report),
        marked=any(event.kind in LETTERS for event in report.events),
        meanings=MEANINGS,
        glance=[panels[stem] for stem in GLANCE if stem in panels],
        panels=[drawn for stem, drawn in panels.items() if stem not in GLANCE],
        flips=[(matrix, flip_rows(matrix.counts)) for matrix in report.flips],
        outcomes=OUTCOMES,
        reliability=_reliability(report),
        samples=[(heading, of) for group, heading in GROUPS.items() if (of := _group(report, group))],
        places=["first", *[str(each.number) for each in report.rounds]],
    )


def write_rounds_html(path: Path, report: RoundsReport) -> None:
    """Write the page whole or not at all."""
    write_text(path, render_rounds(report))


def lead(report: RoundsReport) -> str:
    """Where the loop stands, in one sentence."""
    rounds = report.rounds
    promoted = [each.number for each in rounds if each.promoted]
    best = f"round {promoted[-1]}’s policy is the promoted one" if promoted else "nothing has been promoted"
    refused = next((each for each in rounds if each.decision == "REJECT"), None)
    if refused is None:
        return f"{'One round' if len(rounds) == 1 else f'{len(rounds)} rounds'}, none rejected; {best}."
    went_on = " and the loop went on" if refused.number < rounds[-1].number else ""
    return f"The gate rejected round {refused.number}’s policy{went_on}; {best}."


def sentences(report: RoundsReport) -> list[str]:
    """What the newest policy has lost against the first one, the largest relative losses first."""
    told = []
    for stem in worsened(report.rounds)[:WORST_TOLD]:
        parts = split_key(f"{stem}/new")
        of = quantity(parts.thing)
        old, new = report.rounds[0].metrics[f"{stem}/old"], report.rounds[-1].metrics[f"{stem}/new"]
        told.append(f"{title(parts.thing, parts.part)}: {show(old.value, of)} → {show(new.value, of)}")
    return told


def panel(report: RoundsReport, stem: str) -> Panel | None:
    """One metric's plot and table; None where no round has it."""
    parts = split_key(f"{stem}/new")
    of = quantity_of(split_key(f"{stem}/{SINGLES.get(parts.thing, 'new')}"))
    first, news = _figures(report.rounds, stem)
    if not news:
        return None
    points = _points(report, stem, of, first, news)
    half = band(report.rounds, stem)
    shaded = (first.value - half, first.value + half) if half is not None and first is not None else None
    reference = 0.5 if parts.thing in HALF else None
    ends = [end for point in points for end in (point.value, point.low, point.high) if end is not None]
    scale = nice_scale([*ends, *(shaded or ()), *([reference] if reference else [])], **_limits(of, ends))
    name = title(parts.thing, parts.part)
    drawn = by_round(
        points, scale, len(report.rounds) + 1, f"{name} by round: " + "; ".join(point.text for point in points),
        events=[EventMark(e.before + 1, LETTERS[e.kind], e.text) for e in report.events if e.kind in LETTERS],
        band=shaded, reference=reference,
    )  # fmt: skip
    aa = f"A/A band: ±{show(half, of, unit=False)} around the first policy" if half is not None and first else ""
    return Panel(name, of.note, drawn, ticks(scale, tick_labels(scale, of)), _rows(report, of, first, news),
                 first is not None, aa)  # fmt: skip


def flip_rows(counts: dict[str, dict[str, int]]) -> list[tuple[str, list[int]]]:
    """A flip matrix as rows in a fixed order."""
    return [(row, [counts.get(row, {}).get(column, 0) for column in OUTCOMES]) for row in OUTCOMES]


def _stems(rounds: Sequence[RoundFigures]) -> list[str]:
    """Every metric that is drawn, the telling ones first."""
    found: dict[str, None] = dict.fromkeys(GLANCE)
    for each in rounds:
        for key in each.metrics:
            parts = split_key(key)
            wanted = SINGLES.get(parts.thing, "new")
            if parts.stat == wanted and (wanted != "new" or f"{key.removesuffix('new')}old" in each.metrics):
                found[key.rpartition("/")[0]] = None
    return list(found)


def _figures(rounds: Sequence[RoundFigures], stem: str) -> tuple[Estimate | None, dict[int, Estimate]]:
    """The first policy's figure, and each round's by number."""
    thing = split_key(f"{stem}/new").thing
    stat = SINGLES.get(thing, "new")
    first = rounds[0].metrics.get(f"{stem}/old") if stat == "new" and rounds else None
    news = {each.number: found for each in rounds if (found := _of(each, stem, thing, stat)) is not None}
    return first, news


def _of(each: RoundFigures, stem: str, thing: str, stat: str) -> Estimate | None:
    """Where the reference is the first policy, the KL to it is the KL to the reference."""
    found = each.metrics.get(f"{stem}/{stat}")
    if found is None and thing == "kl_to_first" and (each.parent is None or each.trained_from == "first"):
        return each.metrics.get(f"evaluate/kl/{stat}")
    return found


def _points(
    report: RoundsReport, stem: str, of: Quantity, first: Estimate | None, news: dict[int, Estimate]
) -> list[Point]:
    joined = split_key(f"{stem}/new").thing not in HALF
    by_number = {each.number: each for each in report.rounds}
    points = []
    if first is not None:
        text = f"first policy {show(first.value, of)}, interval {show_interval(first, of)}"
        points.append(Point(0, first.value, first.low, first.high, "first", None, text))
    for place, each in enumerate(report.rounds, start=1):
        found = news.get(each.number)
        if found is None:
            continue
        before = 0 if each.parent is None else 1 + [r.number for r in report.rounds].index(each.parent)
        same = each.parent is None or _same_epoch(by_number[each.parent], each)
        comparable = same or split_key(f"{stem}/new").thing not in JUDGED
        text = f"round {each.number}, {each.decision}: {show(found.value, of)}, interval {show_interval(found, of)}"
        state = "promoted" if each.promoted else STATES.get(each.decision, "held")
        points.append(
            Point(place, found.value, found.low, found.high, state, before if joined and comparable else None, text)
        )
    return points


def _same_epoch(one: RoundFigures, other: RoundFigures) -> bool:
    return one.judge == other.judge and one.constitution == other.constitution


def _rows(report: RoundsReport, of: Quantity, first: Estimate | None, news: dict[int, Estimate]) -> list[TableRow]:
    rows = [TableRow("first policy", "", show(first.value, of), show_interval(first, of), first.n)] if first else []
    for each in report.rounds:
        if (found := news.get(each.number)) is not None:
            gate = each.decision + (", promoted" if each.promoted else "")
            rows.append(
                TableRow(f"round {each.number}", gate, show(found.value, of), show_interval(found, of), found.n)
            )
    return rows


def _limits(of: Quantity, ends: Sequence[float]) -> dict[str, float]:
    """A share ends at 0 and 1; a difference of two chances, which may be negative, at -1 and 1."""
    floor = -1.0 if of.unit == "share" and min(ends) < 0 else 0.0
    return {"floor": floor, "ceiling": 1.0} if of.unit == "share" else {"floor": floor}


def _reliability(report: RoundsReport) -> list[tuple[str, Markup]]:
    found = []
    for number, quality in report.judges.items():
        rows = [(row.name, row.before.points, row.after.points) for row in quality.calibration]
        if rows:
            found.append((number, reliability_svg(rows)))
    return found


def _group(report: RoundsReport, group: str) -> list[object]:
    return [sample for sample in report.samples if sample.group == group]
