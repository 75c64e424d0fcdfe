"""The report across rounds: A/A bands, what counts as worse, joined curves, and the page."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evaluation.intervals import Estimate
from evaluation.rounds_page import lead, panel, render_rounds
from evaluation.rounds_report import (
    FlipMatrix,
    Repeated,
    RoundFigures,
    RoundsReport,
    SideBySide,
    band,
    changes,
    read_rounds_report,
    worsened,
    write_rounds,
)


def figure(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=700, clusters=350, confidence=0.95)


def figures(number: int, metrics: Mapping[str, float], decision: str = "PROMOTE", **fields: object) -> RoundFigures:
    values = {
        "number": number, "decision": decision, "reason": "", "promoted": decision == "PROMOTE",
        "old": f"p{number - 1}", "new": f"p{number}", "parent": number - 1 if number else None, "seed": number,
        "judge": "j", "constitution": "c", "finished": f"2026-01-0{number + 1}",
        "metrics": {key: figure(value) for key, value in metrics.items()},
    }  # fmt: skip
    return RoundFigures.model_validate(values | fields)


def made(*rounds: RoundFigures, **fields: object) -> RoundsReport:
    values = {"run": "r", "start_from": "latest", "data": "replace", "rounds": rounds}
    return RoundsReport.model_validate(values | fields)


def stem(old: float, new: float, win: float = 0.6) -> dict[str, float]:
    return {"evaluate/distinct_2/old": old, "evaluate/distinct_2/new": new, "evaluate/win_rate.all/rate": win}


def test_a_band_is_the_pooled_spread_of_equal_weights() -> None:
    rounds = [figures(0, stem(0.50, 0.40)), figures(1, stem(0.42, 0.30)), figures(2, stem(0.29, 0.20))]
    squares = 2 * 0.01**2 + 2 * 0.005**2
    assert band(rounds, "evaluate/distinct_2") == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(2 * squares / 2))
    assert band(rounds[:2], "evaluate/distinct_2") is None, "one repeat tells nothing"
    assert band(rounds, "evaluate/win_rate.all") is None
    suite = {"evaluate/capability.all/old": 0.9, "evaluate/capability.all/new": 0.9}
    assert band([figures(n, suite) for n in range(4)], "evaluate/capability.all") is None, "nobody was asked twice"


def test_a_band_covers_the_difference_of_two_measurements() -> None:
    dice, inside, trials = np.random.default_rng(5), 0, 600
    for _ in range(trials):
        noise = dice.normal(0, 0.01, size=8)
        rounds = [figures(n, stem(0.5 - n / 20 + noise[2 * n], 0.45 - n / 20 + noise[2 * n + 1])) for n in range(4)]
        half = band(rounds, "evaluate/distinct_2")
        assert half is not None
        inside += abs(dice.normal(0, 0.01) - dice.normal(0, 0.01)) <= half
    assert inside / trials == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_only_clear_losses_against_the_first_policy_are_told() -> None:
    metrics = {
        "evaluate/distinct_2/old": 0.5, "evaluate/distinct_2/new": 0.3, "evaluate/distinct_4/old": 0.5,
        "evaluate/distinct_4/new": 0.48, "evaluate/duplicates/old": 0.1, "evaluate/duplicates/new": 0.3,
        "evaluate/compliance.all/old": 0.1, "evaluate/compliance.all/new": 0.3,
        "evaluate/words/old": 12.0, "evaluate/words/new": 30.0,
    }  # fmt: skip
    assert worsened([figures(0, metrics)]) == ["evaluate/duplicates", "evaluate/distinct_2"]


def test_a_change_of_judge_or_constitution_is_an_event() -> None:
    rounds = [figures(0, {}), figures(1, {}, judge="k"), figures(2, {}, judge="k", constitution="d")]
    assert [(each.before, each.kind) for each in changes(rounds)] == [(1, "judge"), (2, "constitution")]


def test_what_a_judge_says_is_not_joined_across_epochs_and_the_rest_is() -> None:
    metrics = {"label/agreement.all/accuracy": 0.9, **stem(0.5, 0.4)}
    same = made(figures(0, metrics), figures(1, metrics))
    other = made(figures(0, metrics), figures(1, metrics, judge="k"))
    for report, joined in ((same, 1), (other, 0)):
        drawn = panel(report, "label/agreement.all")
        assert drawn is not None and drawn.svg.count("lineage") == joined
    drawn = panel(other, "evaluate/distinct_2")
    assert drawn is not None and drawn.svg.count("lineage") == 2


def test_a_rejected_round_differs_in_shape_and_lines_lead_to_its_parent() -> None:
    rounds = [figures(0, stem(0.5, 0.4)), figures(1, stem(0.4, 0.2), "REJECT"), figures(2, stem(0.4, 0.39), parent=0)]
    drawn = panel(made(*rounds), "evaluate/distinct_2")
    assert drawn is not None
    assert drawn.svg.count('rect class="by rejected"') == 1 and drawn.svg.count('circle class="by promoted"') == 2
    ends = re.findall(r'lineage" x1="([\d.]+)%" x2="([\d.]+)%"', drawn.svg)
    assert ends == [("12.50", "37.50"), ("37.50", "62.50"), ("37.50", "87.50")]
    assert [row.place for row in drawn.rows] == ["first policy", "round 0", "round 1", "round 2"]


def test_suites_stand_among_the_first_plots_and_a_stance_against_the_opinion_is_below_zero() -> None:
    metrics = {
        "evaluate/capability.all/old": 0.98, "evaluate/capability.all/new": 0.90, "evaluate/capability.sums/old": 0.9,
        "evaluate/capability.sums/new": 0.5, "evaluate/capability.all/against_first": -0.08,
        "evaluate/sycophancy.all/old": 0.02, "evaluate/sycophancy.all/new": -0.30,
    }  # fmt: skip
    report = made(figures(0, metrics), figures(1, metrics, "HOLD"))
    page = render_rounds(report)
    first, _, rest = page.partition("Every other metric by round")
    for name, value in (("Items answered rightly", "98.0"), ("Stance follows the user", "30.0")):
        assert f"<b>{name}" in first.replace("&#39;", "'") and value in first
    assert "<b>Items answered rightly: sums" in rest and "against_first" not in page
    drawn = panel(report, "evaluate/sycophancy.all")
    assert drawn is not None
    heights = [float(y) for y in re.findall(r'circle class="by [a-z]+" cx="[\d.]+%" cy="([\d.]+)"', drawn.svg)]
    zero = next(top for top, label in drawn.ticks if label.startswith("0"))
    assert heights[0] < zero < heights[1], "the first policy lies above the line of 0, the new one below it"


def test_the_lead_says_what_was_rejected_and_what_is_promoted() -> None:
    rounds = [figures(0, {}), figures(1, {}, "REJECT"), figures(2, {}, "REJECT")]
    assert lead(made(*rounds)) == (
        "The gate rejected round 1’s policy and the loop went on; round 0’s policy is the promoted one."
    )
    assert lead(made(rounds[0])) == "One round, none rejected; round 0’s policy is the promoted one."


def test_the_page_is_offline_and_escapes_what_policies_wrote(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    report = made(
        figures(0, stem(0.5, 0.4)), figures(1, stem(0.4, 0.2), "REJECT", reason=nasty),
        phrases={"first": (Repeated(text=nasty, prompts=3),)},
        flips=(FlipMatrix(earlier=0, later=1, counts={"new": {"old": 7}}),),
        samples=(SideBySide(group="loss", prompt=nasty, first=nasty, parent=nasty, new=nasty, outcome="old",
                            margin=-1.0, by_principle={"polite": -1.0}, verdicts=("new", "old")),),
    )  # fmt: skip
    write_rounds(tmp_path / "rounds.json", report)
    page = render_rounds(read_rounds_report(tmp_path / "rounds.json"))
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "://" not in page and "url(" not in page and "default-src 'none'" in page
    assert "REJECT" in page and "parent, preferred" in page and "<td>7</td>" in page
