"""The judge's quality as rows to show, and the page that a labelling leaves about its judge.

The page is the report's part about the judge alone, so that it can be read before anything is trained.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from evaluation.charts import reliability_svg
from evaluation.intervals import Estimate
from evaluation.judge_quality import BiasRow, CalibrationRow, JudgeQuality, PanelQuality
from evaluation.pages import render_page
from evaluation.views import Cell
from ratify.files import write_text

LN_2 = math.log(2)
"""A length slope is per unit of log length; times this it is what twice the words are worth."""
ABSENT = Cell("–")


class BiasCells(NamedTuple):
    """One principle's biases as text."""

    principle: str
    pairs: int
    cells: tuple[Cell, ...]


class CalibrationCells(NamedTuple):
    """One calibrator as text."""

    name: str
    what: str
    gold: int
    figures: tuple[str, ...]
    """NLL, Brier score and ECE, before → after."""


class PanelCells(NamedTuple):
    """The judges of a panel, and their agreement with each other, as text."""

    combine: str
    seats: list[tuple[str, str, str, str, str, Cell]]
    """Name, weight, views asked, verdicts failed, questions saved, agreement with gold."""
    partial: bool
    """Some judge was not asked about settled views."""
    statistics: tuple[str, ...]
    rows: list[tuple[str, tuple[Cell, ...], str]]
    """Principle, figures, views."""
    kappas: tuple[str, ...]
    pairs: list[tuple[str, tuple[Cell, ...]]]
    """Principle, Cohen's kappa of each two judges."""


class JudgeView(NamedTuple):
    """Everything about one judged set."""

    heading: str
    agreement: list[tuple[str, Cell, int]]
    canaries: str
    columns: tuple[str, ...]
    biases: list[BiasCells]
    calibration: list[CalibrationCells]
    diagram: Markup | None
    calibrator: str
    panel: PanelCells | None = None


POSITION = ("Same position wins", "Favour for the first")
COMBINATIONS = {
    "logit_mean": "the weighted mean of their log-odds",
    "vote": "a weighted vote",
    "dawid_skene": "votes, each judge believed as Dawid-Skene says",
}
SLOPES = ("Twice as long", "Markdown", "Own family")


def judge_view(heading: str, quality: JudgeQuality) -> JudgeView:
    """Rows and plots of one judge."""
    pairwise = quality.protocol == "pairwise"
    rows = {"overall": quality.agreement, "as a share of what people reach": quality.of_ceiling, **quality.by_principle}
    lost = f"; {quality.canaries_failed} of them have no label" if quality.canaries_failed else ""
    diagrams = [(row.name, row.before.points, row.after.points) for row in quality.calibration]
    return JudgeView(
        heading=heading,
        agreement=[(name, _share(share), share.n) for name, share in rows.items() if share is not None],
        canaries=f"{quality.canaries:,} gold pairs were judged among the others{lost}.",
        columns=(POSITION if pairwise else ()) + SLOPES,
        biases=[_biases(row, pairwise) for row in quality.biases],
        calibration=[_calibration(row) for row in quality.calibration],
        diagram=reliability_svg(diagrams) if diagrams else None,
        calibrator=quality.calibrator,
        panel=_panel(quality.panel) if quality.panel else None,
    )


def write_judge_page(path: Path, title: str, quality: JudgeQuality) -> None:
    """Write one HTML file that opens offline, whole or not at all."""
    view = judge_view("Training pairs", quality)
    page = render_page("judge.html.j2", title=title, judges=[view], quality=quality)
    write_text(path, page)


def _panel(panel: PanelQuality) -> PanelCells:
    statistics = tuple(dict.fromkeys(name for row in panel.rows for name in row.among))
    kappas = tuple(dict.fromkeys(name for row in panel.rows for name in row.kappa))
    seats = [
        (
            seat.name, f"{seat.weight:g}", f"{seat.asked:,}", f"{seat.failed:,}", f"{seat.saved:,}",
            _share(seat.agreement) if seat.agreement else ABSENT,
        )
        for seat in panel.seats
    ]  # fmt: skip
    return PanelCells(
        combine=COMBINATIONS.get(panel.combine, panel.combine),
        seats=seats,
        partial=any(seat.saved for seat in panel.seats),
        statistics=statistics,
        rows=[
            (row.principle, tuple(_coefficient(row.among.get(name)) for name in statistics), f"{row.views:,}")
            for row in panel.rows
        ],
        kappas=kappas,
        pairs=[(row.principle, tuple(_coefficient(row.kappa.get(name)) for name in kappas)) for row in panel.rows],
    )


def _coefficient(found: Estimate | None) -> Cell:
    if found is None:
        return ABSENT
    ends = "" if found.low is None or found.high is None else f"{found.low:.2f} to {found.high:.2f}"
    return Cell(f"{found.value:.2f}", ends)


def _biases(row: BiasRow, pairwise: bool) -> BiasCells:
    position = (_share(row.same_position) if row.same_position else ABSENT, _slope(row.order_gap)) if pairwise else ()
    slopes = (_slope(row.length, LN_2), _slope(row.format), _slope(row.family))
    return BiasCells(row.principle, row.pairs, (*position, *slopes))


def _calibration(row: CalibrationRow) -> CalibrationCells:
    what = f"log-odds divided by {row.temperature:.2f}" if row.temperature is not None else row.method
    before, after = row.before, row.after
    figures = ((before.nll, after.nll), (before.brier, after.brier), (before.ece, after.ece))
    return CalibrationCells(row.name, what, row.gold, tuple(f"{one:.3f} → {other:.3f}" for one, other in figures))


def _share(found: Estimate) -> Cell:
    ends = "" if found.low is None or found.high is None else f"{found.low:.1%} to {found.high:.1%}"
    return Cell(f"{found.value:.1%}", ends)


def _slope(found: Estimate | None, scale: float = 1.0) -> Cell:
    if found is None:
        return ABSENT
    if found.low is None or found.high is None:
        return Cell(f"{found.value * scale:+.2f}")
    sure = found.low > 0 or found.high < 0
    return Cell(f"{found.value * scale:+.2f}", f"{found.low * scale:+.2f} to {found.high * scale:+.2f}", "bad" * sure)
