"""One HTML file per run that opens offline: no script, no network, no font or picture from elsewhere.

The page is a function of the `EvaluationReport`. Everything in it is escaped, since completions may hold HTML, and a
content security policy forbids whatever would slip through. Parts without data are absent. Layout: `templates/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from evaluation.catalog import quantity, show, spoken
from evaluation.charts import bars, curve, nice_scale, stacked
from evaluation.gate_record import MEANINGS, GateVerdict
from evaluation.intervals import Estimate
from evaluation.judge_view import judge_view
from evaluation.judging import Judging
from evaluation.pages import render_page
from evaluation.report import EvaluationReport, Sample, StageCost
from evaluation.suite_view import suite_figures
from evaluation.terminal import confidence, headline_singles
from evaluation.views import comparisons, headline, part_label, plot_alone, plot_comparisons, plot_singles, singles
from ratify.files import write_text

DIVERSITY = (
    *("distinct_1", "distinct_2", "distinct_4", "entropy_1", "entropy_2", "entropy_4", "collision_4", "compression"),
    *("self_repetition", "duplicates", "near_duplicates", "within_prompts", "across_prompts", "vendi"),
    *("rare_mass", "rare_coverage"),
)
LENGTH = ("words", "words_p95", "tokens", "truncated")
FORM = ("form", "over_refusal", "anchor_nll")
REWARDS = (("reward_accuracy", "heldout"), ("reward_ece", "heldout"), ("reward_length", "within_prompts"))
MMD = ("distance", "chance", "p")
COUNTS = ("wins", "ties", "losses", "failed")
JUDGED = {"training": "Training pairs", "heldout": "Held-out pairs"}
GROUPS = {"gain": "Largest gains", "loss": "Largest losses", "random": "Drawn at random"}
CURVES_SHOWN = 8
"""Plots per training stage; the table has every metric."""
CURVE_ORDER = ("loss", "accuracy", "kl", "reward", "margin")
"""Metrics whose names hold these words come first."""


class Curve(NamedTuple):
    """One training metric by step."""

    name: str
    svg: Markup
    low: str
    high: str
    first_step: str
    last_step: str


class CurveFigures(NamedTuple):
    """The same as a row of a table."""

    name: str
    first: str
    last: str
    least: str
    most: str


class StageRow(NamedTuple):
    """One stage's cost."""

    cost: StageCost
    share: float
    """Of all seconds, 0 to 1."""
    rate: str
    """Calls per second."""


def render_html(report: EvaluationReport, gate: GateVerdict | None = None) -> str:
    """The page as text; with the gate's verdict on its first screen where there is one."""
    return render_page(
        "report.html.j2",
        filters={"spoken": spoken, "minutes": minutes},
        report=report,
        gate=gate,
        meaning=MEANINGS[gate.decision] if gate else "",
        confidence=f"{confidence(report):.0%}".replace("%", "\N{NO-BREAK SPACE}%"),
        headline=headline(report),
        headline_singles=headline_singles(report),
        **_figures(report),
        curves={stage: training_curves(rows) for stage, rows in report.curves.items()},
        curve_figures={stage: curve_figures(rows) for stage, rows in report.curves.items()},
        judging=[_judging_view(report, name, judging) for name, judging in report.judging.items()],
        judges=[judge_view(JUDGED[name], quality) for name, quality in report.judges.items()],
        stages=stage_rows(report.stages),
        samples=[(GROUPS[group], of) for group in GROUPS if (of := _group(report.samples, group))],
    )


def write_html(path: Path, report: EvaluationReport, gate: GateVerdict | None = None) -> None:
    """Write the page whole or not at all."""
    write_text(path, render_html(report, gate))


def training_curves(rows: Sequence[dict[str, float]]) -> list[Curve]:
    """A plot of each metric that has at least two different steps, the telling ones first."""
    found = []
    for name in sorted(_metric_names(rows), key=_curve_rank)[:CURVES_SHOWN]:
        points = [(row["step"], row[name]) for row in rows if name in row]
        if len({step for step, _ in points}) < 2:
            continue
        values = [value for _, value in points]
        scale = nice_scale(values, floor=0.0 if min(values) >= 0 else None)
        label = f"{name} from {points[0][1]:.4g} at step {points[0][0]:g} to {points[-1][1]:.4g}"
        found.append(
            Curve(
                spoken(name), curve(points, scale, label), f"{scale.low:.3g}", f"{scale.high:.3g}",
                f"{points[0][0]:g}", f"{points[-1][0]:g}",
            )
        )  # fmt: skip
    return found


def curve_figures(rows: Sequence[dict[str, float]]) -> list[CurveFigures]:
    """First, last, least and most of every metric."""
    figures = []
    for name in sorted(_metric_names(rows), key=_curve_rank):
        values = [row[name] for row in rows if name in row]
        shown = (f"{value:.4g}" for value in (values[0], values[-1], min(values), max(values)))
        figures.append(CurveFigures(spoken(name), *shown))
    return figures


def stage_rows(stages: Sequence[StageCost]) -> list[StageRow]:
    """Each stage with its share of the time."""
    total = sum(cost.seconds for cost in stages) or 1.0
    return [
        StageRow(cost, cost.seconds / total, f"{cost.calls / cost.seconds:,.0f}" if cost.calls and cost.seconds else "")
        for cost in stages
    ]


def minutes(seconds: float) -> str:
    """A duration as people say it: 42 s, 3 min 5 s, 2 h 4 min."""
    if seconds < 60:
        return f"{seconds:.0f}\N{NO-BREAK SPACE}s" if seconds >= 10 else f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}\N{NO-BREAK SPACE}min {whole % 60}\N{NO-BREAK SPACE}s"
    return f"{whole // 3600}\N{NO-BREAK SPACE}h {whole % 3600 // 60}\N{NO-BREAK SPACE}min"


def _figures(report: EvaluationReport) -> dict[str, object]:
    """Every table of estimates and its plot."""
    compliance = comparisons(report, ["compliance"])
    wins = singles(report, "evaluate", "win_rate", "rate", COUNTS)
    stats = ("k3_per_reply", "k1_per_reply", "k3_per_token", "k1_per_token")
    distance = [(stat, row) for stat in stats for row in singles(report, "evaluate", "kl", stat)]
    return {
        "compliance": compliance,
        "compliance_plot": plot_comparisons(compliance),
        "wins": wins,
        "wins_plot": plot_singles(wins, [part_label(row.title) for row in wins], reference=0.5),
        "distance": distance,
        "distance_plot": plot_singles([row for _, row in distance[:2]], [spoken(stat) for stat, _ in distance[:2]]),
        "told_apart": next(iter(singles(report, "evaluate", "told_apart", "rate")), None),
        "mmd": {stat: show(found.value, quantity("mmd")) for stat in MMD if (found := _mmd(report, stat))},
        "diversity": [(row, plot_alone(row)) for row in comparisons(report, DIVERSITY)],
        "length": [(row, plot_alone(row)) for row in comparisons(report, LENGTH)],
        "form": comparisons(report, FORM),
        **suite_figures(report),
        "proxies": list(zip(*_proxies(report), strict=True)),
        "rewards": [row for thing, stat in REWARDS for row in singles(report, "reward_model", thing, stat)],
        "agreements": [found for found in (_agreement_view(report, *which) for which in AGREEMENTS) if found],
    }


def _mmd(report: EvaluationReport, stat: str) -> Estimate | None:
    return report.metrics.get(f"evaluate/mmd/{stat}")


def _proxies(report: EvaluationReport) -> list[list[object]]:
    """Columns: the proxies' names, and the cells of what they, gold and the difference say."""
    columns = [singles(report, "evaluate", "proxy_gold", stat) for stat in ("proxy", "gold", "gap")]
    columns_of_cells: list[list[object]] = [[row.cell for row in column] for column in columns]
    return [[part_label(row.title) for row in columns[0]], *columns_of_cells]


AGREEMENTS = (
    ("label", "verdicts", "Training replies: verdict on one reply against the truth"),
    ("label", "agreement", "Training pairs: label against the truth"),
    ("label", "people", "Training pairs: label against people"),
    ("evaluate", "verdicts", "Held-out replies: verdict on one reply against the truth"),
    ("evaluate", "agreement", "Held-out pairs: label against the truth"),
    ("evaluate", "people", "Held-out pairs: label against people"),
)


def _agreement_view(report: EvaluationReport, stage: str, thing: str, heading: str) -> dict[str, object] | None:
    rows = singles(report, stage, thing, "accuracy", ("ties", "failed"))
    if not rows:
        return None
    labels = [part_label(row.title) for row in rows]
    kappas = {row.title: row.cell for row in singles(report, stage, thing, "kappa")}
    return {
        "heading": heading,
        "rows": [(label, row, kappas.get(row.title)) for label, row in zip(labels, rows, strict=True)],
        "plot": plot_singles(rows, labels, reference=0.5),
    }


def _judging_view(report: EvaluationReport, name: str, judging: Judging) -> dict[str, object]:
    stage = "label" if name == "training" else "evaluate"
    decided = judging.outcomes.get("a", 0) + judging.outcomes.get("b", 0)
    parts = (
        ("decided", "decided", decided),
        ("ties", "tied", judging.outcomes.get("tie", 0)),
        ("failed", "failed", judging.outcomes.get("failed", 0)),
    )
    told = ", ".join(f"{count} {label}" for label, _, count in parts)
    return {
        "name": JUDGED[name],
        "judging": judging,
        "parts": parts,
        "outcomes_svg": stacked(parts, f"Labels: {told}"),
        "margins_svg": bars(judging.margins.counts, "Histogram of label margins") if judging.margins else None,
        "first": next(iter(singles(report, stage, "position", "first")), None),
        "flips": next(iter(singles(report, stage, "position", "flips")), None),
    }


def _metric_names(rows: Sequence[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name != "step"))


def _curve_rank(name: str) -> tuple[int, str]:
    rank = next((number for number, word in enumerate(CURVE_ORDER) if word in name.lower()), len(CURVE_ORDER))
    return rank, name


def _group(samples: Sequence[Sample], group: str) -> list[Sample]:
    return [sample for sample in samples if sample.group == group]
