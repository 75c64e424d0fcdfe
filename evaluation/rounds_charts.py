"""Small multiples by round as inline SVG: a dot with a whisker for each policy, joined to the policy it came from.

Horizontal positions are percentages and heights pixels, as in `charts.py`, so that dots and letters keep their size on
a phone. What a round came to is told by shape as well as by colour: a full dot was promoted, a hollow one was not, a
crossed square was rejected. Left out: which figures are drawn (`rounds_page.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from evaluation.charts import Scale

HEIGHT = 132
PAD = 12
"""Pixels above and below the scale."""
CROSS = 5.5


class Point(NamedTuple):
    """One policy's figure."""

    place: int
    """0 is the first policy, then one more for each round."""
    value: float
    low: float | None
    high: float | None
    state: str
    """`first`, `promoted`, `held`, `rejected`."""
    parent: int | None
    """The place of the policy it came from; None where no line is drawn."""
    text: str


class EventMark(NamedTuple):
    """A dashed line before a place."""

    place: int
    letter: str
    text: str


def across(place: int, places: int) -> float:
    """Where a place lies, in percent of the width."""
    return 100 * (place + 0.5) / places


def by_round(
    points: Sequence[Point],
    scale: Scale,
    places: int,
    label: str,
    *,
    events: Sequence[EventMark] = (),
    band: tuple[float, float] | None = None,
    reference: float | None = None,
) -> Markup:
    """One figure by round; `band` is shaded, `reference` a dashed line."""
    parts = [_band(scale, *band)] if band else []
    parts += [_across(_y(scale, tick), "grid") for tick in scale.ticks]
    if reference is not None:
        parts.append(_across(_y(scale, reference), "reference"))
    parts += [_event(mark, places) for mark in events]
    at = {point.place: point for point in points}
    parts += [_line(at[p.parent], p, scale, places) for p in points if p.parent is not None and p.parent in at]
    parts += [_point(point, scale, places) for point in points]
    return Markup('<svg class="plot" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        HEIGHT, label, Markup("").join(parts)
    )


def ticks(scale: Scale, labels: Sequence[str]) -> list[tuple[float, str]]:
    """Pixels from the top and the label of each tick."""
    return [(round(_y(scale, tick), 1), label) for tick, label in zip(scale.ticks, labels, strict=True)]


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - PAD - (HEIGHT - 2 * PAD) * scale.percent(value) / 100


def _across(y: float, css: str) -> Markup:
    return Markup('<line class="{}" x1="0" x2="100%" y1="{:.1f}" y2="{:.1f}"/>').format(css, y, y)


def _band(scale: Scale, low: float, high: float) -> Markup:
    top, bottom = _y(scale, high), _y(scale, low)
    return Markup('<rect class="aa" x="0" width="100%" y="{:.1f}" height="{:.1f}"/>').format(
        top, max(1.0, bottom - top)
    )


def _event(mark: EventMark, places: int) -> Markup:
    x = 100 * mark.place / places
    return Markup(
        '<line class="event" x1="{0:.2f}%" x2="{0:.2f}%" y1="12" y2="{1}"><title>{3}</title></line>'
        '<text class="event" x="{0:.2f}%" y="10" text-anchor="middle">{2}</text>'
    ).format(x, HEIGHT, mark.letter, mark.text)


def _line(start: Point, end: Point, scale: Scale, places: int) -> Markup:
    return Markup('<line class="lineage" x1="{:.2f}%" x2="{:.2f}%" y1="{:.1f}" y2="{:.1f}"/>').format(
        across(start.place, places), across(end.place, places), _y(scale, start.value), _y(scale, end.value)
    )


def _point(point: Point, scale: Scale, places: int) -> Markup:
    x, y = across(point.place, places), _y(scale, point.value)
    drawn = Markup("")
    if point.low is not None and point.high is not None:
        drawn = Markup('<line class="whisker by {0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="{2:.1f}" y2="{3:.1f}"/>').format(
            point.state, x, _y(scale, point.low), _y(scale, point.high)
        )
    if point.state == "rejected":
        shape = Markup(
            '<svg x="{:.2f}%" y="{:.1f}" overflow="visible"><rect class="by rejected" x="{}" y="{}" width="{}" '
            'height="{}"/><path class="by rejected" d="M-3 -3L3 3M-3 3L3 -3"/><title>{}</title></svg>'
        ).format(x, y, -CROSS, -CROSS, 2 * CROSS, 2 * CROSS, point.text)
    else:
        shape = Markup('<circle class="by {}" cx="{:.2f}%" cy="{:.1f}" r="5.5"><title>{}</title></circle>').format(
            point.state, x, y, point.text
        )
    return drawn + shape
