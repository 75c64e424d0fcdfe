"""The frontier of reward and KL as one offline page: proxy and gold over √KL, with the fitted curves and a table.

Made like the evaluation report: no script, no network, everything escaped, a content security policy besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from evaluation.charts import Scale, axis, nice_scale
from evaluation.intervals import Estimate
from evaluation.over_optimisation import FITTED_FROM, Coefficient, Fitted
from evaluation.pages import render_page
from evaluation.reward_frontier import FrontierPoint, RewardFrontier
from ratify.files import write_text

HEIGHT_PX = 200
CURVE_POINTS = 60
MOST_TICKS = 6


class Panel(NamedTuple):
    """One reward over √KL."""

    name: str
    svg: Markup
    axis: Markup
    high: str
    low: str
    curve: str
    """The fitted coefficients in words."""


def write_frontier_page(path: Path, frontier: RewardFrontier) -> None:
    """Write the page."""
    write_text(path, render_frontier(frontier))


def render_frontier(frontier: RewardFrontier) -> str:
    """The page's HTML."""
    across = _distance_scale(frontier.points)
    panels = [_panel(frontier.proxy, frontier.points, [p.proxy for p in frontier.points], frontier.proxy_curve, across)]
    known = [point for point in frontier.points if point.gold is not None]
    if known:
        golds = [point.gold for point in known if point.gold is not None]
        panels.append(_panel(frontier.gold, known, golds, frontier.gold_curve, across))
    return render_page(
        "frontier.html.j2",
        frontier=frontier, panels=panels, rows=[_row(point)[: 4 if known else 3] for point in frontier.points],
    )  # fmt: skip


def _distance(point: FrontierPoint) -> float:
    return float(max(point.kl.value, 0.0) ** 0.5)


def _distance_scale(points: Sequence[FrontierPoint]) -> Scale:
    """Linear in √KL, with ticks at round KLs, which is what people read."""
    farthest = max([_distance(point) for point in points] + [0.1])
    kls = nice_scale([0.0, farthest**2], floor=0.0).ticks[:MOST_TICKS]
    return Scale(0.0, farthest * 1.02, tuple(kl**0.5 for kl in kls if kl**0.5 <= farthest * 1.02))


def _panel(
    name: str, points: Sequence[FrontierPoint], values: Sequence[Estimate], fitted: Fitted | None, across: Scale
) -> Panel:
    ends = [end for value in values for end in (value.low, value.value, value.high) if end is not None]
    up = nice_scale(ends)
    marks = [_mark(point, value, across, up) for point, value in zip(points, values, strict=True)]
    curve = _line(fitted, across, up) if fitted else Markup("")
    grid = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(_n(_height(tick, up)))
        for tick in up.ticks
    ]
    label = f"{name} over the square root of the KL: {values[0].value:.3g} at first, {values[-1].value:.3g} at last"
    svg = Markup('<svg class="frontier" width="100%" height="{}" role="img" aria-label="{}">{}{}{}</svg>').format(
        HEIGHT_PX, label, Markup("").join(grid), curve, Markup("").join(marks)
    )
    ticks = axis(across, [f"{tick**2:.3g}" for tick in across.ticks])
    return Panel(name, svg, ticks, f"{up.high:.3g}", f"{up.low:.3g}", _words(fitted))


def _mark(point: FrontierPoint, value: Estimate, across: Scale, up: Scale) -> Markup:
    x = _n(across.percent(_distance(point)))
    told = f"step {point.step}: {value.value:.3g} at {point.kl.value:.2f} nats"
    dot = Markup('<circle class="dot one" cx="{}%" cy="{}" r="4"><title>{}</title></circle>').format(
        x, _n(_height(value.value, up)), told
    )
    if value.low is None or value.high is None:
        return dot
    return dot + Markup('<line class="spread" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>').format(
        x, _n(_height(value.low, up)), _n(_height(value.high, up))
    )


def _line(fitted: Fitted, across: Scale, up: Scale) -> Markup:
    """The fitted curve where it was fitted, in a box that is stretched over the plot."""
    step = (across.high - FITTED_FROM) / CURVE_POINTS
    places = [FITTED_FROM + step * number for number in range(CURVE_POINTS + 1)]
    path = " ".join(f"{_n(across.percent(d))},{_n(_height(fitted.gold(d), up))}" for d in places)
    return Markup(
        '<svg width="100%" height="{0}" viewBox="0 0 100 {0}" preserveAspectRatio="none">'
        '<polyline class="line fitted" points="{1}"/></svg>'
    ).format(HEIGHT_PX, path)


def _height(value: float, up: Scale) -> float:
    return HEIGHT_PX * (1 - up.percent(value) / 100)


def _words(fitted: Fitted | None) -> str:
    if fitted is None:
        return ""
    return (
        f"R(d) = {fitted.start.value:.3g} + d·(α − β·log d), α {_interval(fitted.alpha)}, β {_interval(fitted.beta)}, "
        f"on {fitted.points} points, {fitted.residual:.2g} left over"
    )


def _interval(found: Coefficient) -> str:
    return f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"


def _row(point: FrontierPoint) -> tuple[str, ...]:
    return str(point.step), _estimate(point.kl), _estimate(point.proxy), _estimate(point.gold) if point.gold else ""


def _estimate(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
