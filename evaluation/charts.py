"""Small plots as inline SVG: dots with intervals, curves, bars. No script, no network, no size in pixels but heights.

Horizontal positions are percentages, so that a plot fills whatever width there is and its dots and letters keep their
size on a phone. Colours are CSS classes of the page (light and dark); series differ in shape as well as in colour.
Every plot carries a sentence for readers who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from evaluation.intervals import Estimate
from evaluation.judge_quality import ReliabilityPoint

ROW_PX = 22
"""Height of one series in a dot-and-interval row."""
MOST_POINTS = 240
"""Points of a curve that are drawn; more are thinned out evenly."""


class Scale(NamedTuple):
    """A linear scale with its ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def percent(self, value: float) -> float:
        """Where a value lies, in percent of the width, held inside the plot."""
        span = self.high - self.low or 1.0
        return min(100.0, max(0.0, 100 * (value - self.low) / span))


class Mark(NamedTuple):
    """One dot with its interval; `series` is a CSS class: `old`, `new` or `one`."""

    estimate: Estimate
    series: str
    text: str
    """The value in words, for the sentence."""


def nice_scale(values: Sequence[float], *, floor: float | None = None, ceiling: float | None = None) -> Scale:
    """A scale that covers the values, with three to six round ticks; `floor` and `ceiling` are ends it may not pass."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    low = low if floor is None else max(low, floor)
    high = high if ceiling is None else min(high, ceiling)
    step = _step((high - low) / 4)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(low, high, tuple(number * step for number in range(first, last + 1)))


def share_scale() -> Scale:
    """From 0 to 100 percent."""
    return Scale(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def interval_row(marks: Sequence[Mark], scale: Scale, *, reference: float | None = None) -> Markup:
    """Dots with intervals, one series under the other, on a common scale; `reference` is a dashed line."""
    height = ROW_PX * len(marks) + 6
    lines = [_vertical(scale.percent(tick), height, "grid") for tick in scale.ticks]
    if reference is not None:
        lines.append(_vertical(scale.percent(reference), height, "reference"))
    drawn = [_mark(mark, scale, 3 + ROW_PX * (number + 0.5)) for number, mark in enumerate(marks)]
    label = "; ".join(mark.text for mark in marks)
    return Markup('<svg class="plot" width="100%" height="{}" role="img" aria-label="{}">{}{}</svg>').format(
        height, label, Markup("").join(lines), Markup("").join(drawn)
    )


def axis(scale: Scale, labels: Sequence[str]) -> Markup:
    """Tick labels under a plot of the same width."""
    spans = []
    for tick, label in zip(scale.ticks, labels, strict=True):
        at = scale.percent(tick)
        shift = -at if at < 8 or at > 92 else -50
        spans.append(
            Markup('<span style="left:{}%;transform:translateX({}%)">{}</span>').format(_n(at), _n(shift), label)
        )
    return Markup('<div class="axis" aria-hidden="true">{}</div>').format(Markup("").join(spans))


def curve(points: Sequence[tuple[float, float]], scale: Scale, label: str) -> Markup:
    """A line through (x, y) points; x runs over the whole width, y over the scale."""
    points = thin(points)
    left, right = points[0][0], points[-1][0]
    span = right - left or 1.0
    path = " ".join(f"{_n(100 * (x - left) / span)},{_n(100 - scale.percent(y))}" for x, y in points)
    lines = [
        Markup('<line class="grid" x1="0" x2="100" y1="{0}" y2="{0}"/>').format(_n(100 - scale.percent(tick)))
        for tick in scale.ticks
    ]
    return Markup(
        '<svg class="curve" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{}">'
        '{}<polyline class="line" points="{}"/></svg>'
    ).format(label, Markup("").join(lines), path)


def thin(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` points, evenly chosen, always with the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]


def bars(counts: Sequence[int], label: str) -> Markup:
    """A histogram; the tallest bar fills the height."""
    width, tallest = 100 / max(1, len(counts)), max([*counts, 1])
    drawn = [
        Markup('<rect class="bar" x="{}%" width="{}%" y="{}%" height="{}%"/>').format(
            _n(width * number + width * 0.06), _n(width * 0.88), _n(100 - 100 * count / tallest),
            _n(100 * count / tallest),
        )
        for number, count in enumerate(counts)
    ]  # fmt: skip
    return Markup('<svg class="bars" width="100%" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(drawn)
    )


def stacked(parts: Sequence[tuple[str, str, int]], label: str) -> Markup:
    """One bar cut into parts of (name, CSS class, count), in the given order."""
    total = sum(count for _, _, count in parts) or 1
    drawn, left = [], 0.0
    for name, css, count in parts:
        width = 100 * count / total
        drawn.append(
            Markup('<rect class="{}" x="{}%" width="{}%" y="0" height="100%"><title>{}: {}</title></rect>').format(
                css, _n(left), _n(width), name, count
            )
        )
        left += width
    return Markup('<svg class="stacked" width="100%" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(drawn)
    )


def _mark(mark: Mark, scale: Scale, y: float) -> Markup:
    estimate = mark.estimate
    ends = Markup("")
    if estimate.low is not None and estimate.high is not None:
        ends = Markup('<line class="whisker {}" x1="{}%" x2="{}%" y1="{}" y2="{}"/>').format(
            mark.series, _n(scale.percent(estimate.low)), _n(scale.percent(estimate.high)), _n(y), _n(y)
        )
    dot = Markup('<circle class="dot {}" cx="{}%" cy="{}" r="5.5"><title>{}</title></circle>').format(
        mark.series, _n(scale.percent(estimate.value)), _n(y), mark.text
    )
    return ends + dot


def _vertical(percent: float, height: float, css: str) -> Markup:
    return Markup('<line class="{}" x1="{}%" x2="{}%" y1="0" y2="{}"/>').format(css, _n(percent), _n(percent), height)


def _step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _n(value: float) -> Markup:
    """A coordinate with two decimals and no trailing zeros."""
    return escape(f"{value:.2f}".rstrip("0").rstrip("."))


def reliability_svg(diagrams: Sequence[tuple[str, Sequence[ReliabilityPoint], Sequence[ReliabilityPoint]]]) -> Markup:
    """Reliability diagrams side by side as one file that stands alone: hollow dots before calibration, full ones after.

    Args:
        diagrams: Name, points before, points after; a point on the diagonal means what it says.
    """
    size, gap = 240, 24
    width = max(1, len(diagrams)) * (size + gap) + gap
    drawn = [_diagram(gap + number * (size + gap), size, *each) for number, each in enumerate(diagrams)]
    style = ".reliability text{font:12px sans-serif;fill:#333}.reliability .frame{stroke:#999;fill:none}"
    style += ".reliability .ideal{stroke:#999;stroke-dasharray:4 4}.reliability .before{fill:#fff;stroke:#b35806}"
    style += ".reliability .after{fill:#2166ac;stroke:#2166ac}"
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" '
        'class="reliability" role="img">'
        "<title>Reliability: predicted probability across, share that came true upwards; hollow before calibration, "
        'full after</title><style>{2}</style><rect width="100%" height="100%" fill="#fff"/>{3}</svg>\n'
    ).format(width, size + 3 * gap, Markup(style), Markup("").join(drawn))


def _diagram(
    left: int, size: int, name: str, before: Sequence[ReliabilityPoint], after: Sequence[ReliabilityPoint]
) -> Markup:
    dots = [
        Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(
            series,
            _n(size * point.predicted),
            _n(size - size * point.observed),
            _n(2.5 + min(3.5, point.count**0.5 / 3)),
        )
        for series, points in (("before", before), ("after", after))
        for point in points
    ]
    return Markup(
        '<g transform="translate({0},28)"><text y="-10">{1}</text><rect class="frame" width="{2}" height="{2}"/>'
        '<line class="ideal" x1="0" y1="{2}" x2="{2}" y2="0"/>{3}<text y="{4}">0</text>'
        '<text x="{2}" y="{4}" text-anchor="end">1</text></g>'
    ).format(left, name, size, Markup("").join(dots), size + 16)
