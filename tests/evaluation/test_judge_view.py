"""The judge's part of the report: every figure is shown, absent ones say so, names cannot inject."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from evaluation.charts import reliability_svg
from evaluation.html_report import render_html
from evaluation.judge_quality import (
    BiasRow,
    CalibrationRow,
    JudgeQuality,
    ReliabilityPoint,
    ReliabilityRow,
    read_judge_quality,
)
from evaluation.judge_view import judge_view, write_judge_page
from evaluation.summary import summarise
from ratify.errors import StoreError
from ratify.intervals import Estimate


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=50, clusters=50, confidence=0.95)


def reliability(nll: float) -> ReliabilityRow:
    points = tuple(ReliabilityPoint(count=10, predicted=p, observed=p / 2) for p in (0.1, 0.5, 0.9))
    return ReliabilityRow(nll=nll, brier=0.2, ece=0.1, points=points)


QUALITY = JudgeQuality(
    judge="f" * 64, protocol="pairwise", canaries=100, canaries_failed=3, agreement=estimate(0.8, 0.7, 0.9),
    of_ceiling=estimate(1.0, 0.875, 1.125), by_principle={"<b>": estimate(0.9, 0.8, 1.0)},
    biases=(BiasRow(principle="<b>", pairs=50, same_position=estimate(0.3, 0.2, 0.4), length=estimate(1.0, 0.5, 1.5)),),
    calibrator="c" * 64,
    calibration=(CalibrationRow(name="<b>", method="temperature", temperature=2.5, gold=97, before=reliability(0.9),
                                after=reliability(0.4)),),
)  # fmt: skip


def test_every_figure_is_shown_and_absent_ones_say_so() -> None:
    view = judge_view("Training pairs", QUALITY)
    (row,) = view.biases
    assert [one.value for one in row.cells] == ["30.0%", "–", "+0.69", "–", "–"]
    assert row.cells[2].tone == "bad" and row.cells[2].interval == "+0.35 to +1.04"
    (made,) = view.calibration
    assert made.what == "log-odds divided by 2.50" and made.figures[0] == "0.900 → 0.400"
    assert "3 of them have no label" in view.canaries


def test_the_report_holds_the_judge_and_escapes_its_names(evidence, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import dataclasses

    report = summarise(dataclasses.replace(evidence, judges={"training": QUALITY}))
    page = render_html(report)
    assert "What moves the judge" in page and "&lt;b&gt;" in page and "<b></th>" not in page
    write_judge_page(tmp_path / "judge.html", "The judge", QUALITY)
    alone = (tmp_path / "judge.html").read_text()
    assert "0.900 → 0.400" in alone and "Same position wins" in alone and "default-src 'none'" in alone


def test_a_diagram_stands_alone_as_xml() -> None:
    points = QUALITY.calibration[0].before.points
    root = ElementTree.fromstring(reliability_svg([("<b>", points, points), ("q", points, points)]))
    circles = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(circles) == 12 and circles[0].get("cx") == "24" and circles[0].get("cy") == "228"


def test_a_file_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    assert read_judge_quality(tmp_path / "judge.json") is None
    (tmp_path / "judge.json").write_text('{"judge": 1}')
    with pytest.raises(StoreError, match="run its stage again"):
        read_judge_quality(tmp_path / "judge.json")
