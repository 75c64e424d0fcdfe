"""The report on items with known answers: what the policies can do, and whether they say what users think."""

from __future__ import annotations

from typing import NamedTuple

from evaluation.capability import FIRST
from evaluation.catalog import quantity, split_key
from evaluation.report import EvaluationReport
from evaluation.views import Cell, Comparison, cell, comparisons, plot_comparisons, tone


class Changed(NamedTuple):
    """A part of the capability suite: which of its items changed, and the change against the first policy."""

    label: str
    items: int
    gained: int
    lost: int
    against_first: Cell | None


def suite_figures(report: EvaluationReport) -> dict[str, object]:
    """Tables and plots of the suites; those that were not given are empty."""
    capability = comparisons(report, ["capability"])
    return {
        "capability": capability,
        "capability_plot": plot_comparisons(capability),
        "capability_changed": [_changed(report, key, row) for key, row in zip(_stems(report), capability, strict=True)],
        "harness": comparisons(report, ["harness"]),
        "sycophancy": comparisons(report, ["sycophancy", "opinion_followed"]),
    }


def _stems(report: EvaluationReport) -> list[str]:
    keys = [key for key in report.metrics if key.endswith("/new") and split_key(key).thing == "capability"]
    return [key.removesuffix("/new") for key in keys]


def _changed(report: EvaluationReport, stem: str, row: Comparison) -> Changed:
    first, of = report.metrics.get(f"{stem}/{FIRST}"), quantity("capability")
    gained, lost = (report.counts.get(f"{stem}/{name}", 0) for name in ("gained", "lost"))
    against = None if first is None else cell(first, of, signed=True, tone=tone(first, of.better))
    return Changed(row.label, report.metrics[f"{stem}/new"].n, gained, lost, against)
