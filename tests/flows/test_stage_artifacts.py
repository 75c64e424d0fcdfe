"""What the page shows of a stage: order, sparklines, histories; and that no constitution's text is in it."""

import json
import math
from pathlib import Path

from evaluation.drift_record import DriftReport, Reading
from evaluation.gate_record import GateVerdict, Reason, Standing
from evaluation.intervals import Estimate
from evaluation.report import ConstitutionText, EvaluationReport, PrincipleText, RunIdentity
from flows.stage_artifacts import (
    BARS,
    WIDEST,
    drift_markdown,
    gate_markdown,
    group_of,
    sparkline,
    stage_table,
    training_curves,
)
from ratify.promotions import Event


def report(win_rate: float) -> EvaluationReport:
    figure = Estimate(value=win_rate, low=win_rate - 0.1, high=win_rate + 0.1, n=10, clusters=5, confidence=0.95)
    principles = (PrincipleText(id="p", text="The reply keeps {{ secrets }}."),)
    return EvaluationReport(
        conclusion=("x",), metrics={"evaluate/win_rate.all/rate": figure}, counts={}, identity=RunIdentity(run="r"),
        constitution=ConstitutionText(id="c", version="1", hash="h", principles=principles),
    )  # fmt: skip


def test_a_sparkline_is_lowest_to_highest_and_shows_what_is_no_number() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BARS
    assert sparkline([7, 0]) == BARS[-1] + BARS[0]
    assert sparkline([3, 3]) == BARS[3] * 2 and sparkline([]) == ""
    assert sparkline([0, math.nan, 1]) == f"{BARS[0]}·{BARS[-1]}"
    assert len(sparkline(range(1000))) == WIDEST and sparkline(range(1000))[-1] == BARS[-1]


def test_a_stage_table_goes_from_counts_to_the_rest() -> None:
    metrics = {
        "label/calls/count": 1200, "label/failed/count": 3, "label/pairs/count": 90, "label/money/EUR": 1.5,
        "label/gold/agreement": 0.93, "label/position/same": 0.1, "evaluate/gate/decision": "HOLD",
    }  # fmt: skip
    rows = stage_table(metrics)
    assert [row["about"] for row in rows] == [
        "counts", "failures", "cost", "cost", "agreement", "position bias", "other",
    ]  # fmt: skip
    assert {row["figure"]: row["value"] for row in rows}["label/calls/count"] == "1,200"
    assert group_of("policy/train/steps") == "counts"


def test_curves_come_from_the_metrics_file(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": 1 - n / 8, "kl": n / 8} for n in range(5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert training_curves(tmp_path / "metrics.jsonl") == [
        f"- loss `{sparkline([5, 4, 3, 2, 1])}` 1.000 → 0.500",
        f"- kl `{sparkline([1, 2, 3, 4, 5])}` 0.000 → 0.500",
    ]
    assert training_curves(tmp_path / "none") == []


def test_the_gate_page_reads_as_the_history_and_holds_no_text_of_the_constitution() -> None:
    reason = Reason(check="superiority", status="unsure", metric="m", text="the lower bound is 0.49")
    verdict = GateVerdict(decision="HOLD", reasons=(reason,), standing=Standing(attempt=2), alpha=0.01, evidence="e")
    refusal = Event(number=2, kind="refusal", time="2026-11-28T01:02:03+00:00", code="c", person="Ada", reason="a|b")
    page = gate_markdown(verdict, [refusal], [report(0.5), report(0.6)])
    assert "## HOLD" in page and reason.text in page and "Attempt 2" in page
    assert f"| win rate | `{BARS[0]}{BARS[-1]}` | 0.5 | 0.6 | 0.5 to 0.7 |" in page
    assert "| 2026-11-28 01:02 | refusal |  | Ada: a\\|b |" in page
    assert "secrets" not in page + drift_markdown([report(0.5)])
    assert "1 evaluated round\n" in drift_markdown([report(0.5)])


def test_a_drift_page_shows_alarms_before_silence() -> None:
    readings = (
        Reading(part="policy", name="kl", state="steady", text="It is calm."),
        Reading(part="judge", name="gold", state="drift", text="It | moved."),
    )
    check = DriftReport(run="r", round=0, time="t", alpha=0.05, readings=readings)
    page = drift_markdown([], check)
    assert page.startswith("## drift") and page.index("It \\| moved.") < page.index("It is calm.")
