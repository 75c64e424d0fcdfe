"""The gate: what promotes, what does not, and that missing evidence never passes."""

import math
import random

import pytest
from pydantic import ValidationError

from evaluation.gate import CONTROLLED, DUPLICATES, KL, TRUTH, WIN_RATE, WORDS, decide, first_figures
from evaluation.gate_record import Standing, evidence_hash, read_gate, write_gate
from evaluation.html_report import render_html
from evaluation.intervals import Estimate
from evaluation.report import ConstitutionText, EvaluationReport, RunIdentity
from evaluation.terminal import plain_text
from ratify.config import load_config
from ratify.errors import ConfigError, StoreError
from ratify.gate_section import GateSection
from ratify.lineage import ROOT

SECTION = GateSection()
PLAIN = {
    "evaluate/distinct_2": (0.40, 0.39, 0.01),
    "evaluate/distinct_4": (0.60, 0.59, 0.01),
    "evaluate/duplicates": (0.10, 0.11, 0.02),
    "evaluate/truncated": (0.01, 0.01, 0.01),
    "evaluate/words": (50.0, 52.0, 2.0),
}
"""Thing → old, new, half-width of the 95 % interval."""


def figure(value, half, clusters=400):
    return Estimate(
        value=value, low=value - half, high=value + half, n=2 * clusters, clusters=clusters, confidence=0.95
    )


def report_of(changes=None, *, without=(), things=None, counts=None, judge="judge-1", old="first (aaaa)"):
    """A report that the gate promotes, but for the changes."""
    metrics = {
        WIN_RATE: figure(0.60, 0.03), CONTROLLED: figure(0.59, 0.03), KL: figure(2.0, 0.2),
        TRUTH: figure(0.08, 0.03), "evaluate/compliance.all/old": figure(0.50, 0.03),
        "evaluate/compliance.all/new": figure(0.58, 0.03),
    }  # fmt: skip
    for thing, (before, after, half) in {**PLAIN, **(things or {})}.items():
        metrics |= {f"{thing}/old": figure(before, half), f"{thing}/new": figure(after, half)}
    metrics |= changes or {}
    return EvaluationReport(
        conclusion=("",), metrics={key: found for key, found in metrics.items() if key not in without},
        counts=counts or {f"evaluate/win_rate.all/{name}": 100 for name in ("wins", "ties", "losses")},
        identity=RunIdentity(run="r", judge=judge, models={"old": old, "new": "new (bbbb)"}),
        constitution=ConstitutionText(id="c", version="1", hash="cafe", principles=()),
    )  # fmt: skip


def why(verdict):
    return [(reason.check, reason.metric) for reason in verdict.deciding]


def test_a_policy_that_shows_everything_is_promoted() -> None:
    verdict = decide(report_of(), SECTION)
    assert verdict.decision == "PROMOTE" and not verdict.deciding
    assert verdict.alpha == pytest.approx(0.05 * 6 / math.pi**2)
    assert {reason.check for reason in verdict.reasons} == {
        "validity", "superiority", "non-inferiority", "budget", "reward hacking",
    }  # fmt: skip


def test_each_reason_names_metric_value_and_bound() -> None:
    verdict = decide(report_of({WIN_RATE: figure(0.52, 0.03)}), SECTION)
    assert verdict.decision == "HOLD"
    reason = verdict.deciding[0]
    assert (reason.metric, reason.value, reason.limit) == (WIN_RATE, 0.52, 0.5)
    assert reason.bound == pytest.approx(0.52 - 0.03 * 1.881 / 1.966, abs=1e-3)
    assert "52.0\N{NO-BREAK SPACE}%" in reason.text and "lower bound 49.1" in reason.text and "50.0" in reason.text


@pytest.mark.parametrize(
    "key", [WIN_RATE, CONTROLLED, KL, WORDS, DUPLICATES, "evaluate/distinct_2/new", "evaluate/truncated/old"]
)
def test_a_missing_metric_is_insufficient_and_named(key) -> None:
    verdict = decide(report_of(without=(key,)), SECTION)
    assert verdict.decision == "INSUFFICIENT" and key in [metric for _, metric in why(verdict)]


@pytest.mark.parametrize("key", [WIN_RATE, CONTROLLED, TRUTH, KL, WORDS, "evaluate/distinct_4/new"])
@pytest.mark.parametrize("low", [None, math.nan, -math.inf])
def test_a_metric_without_a_finite_interval_is_insufficient(key, low) -> None:
    broken = report_of().metrics[key].model_copy(update={"low": low})
    assert decide(report_of({key: broken}), SECTION).decision == "INSUFFICIENT"


def test_taking_evidence_away_never_promotes() -> None:
    """Whatever is removed from a report that is held, rejected or insufficient, it does not become PROMOTE."""
    generator = random.Random(1)
    bad = report_of(
        {WIN_RATE: figure(0.49, 0.03), TRUTH: figure(-0.1, 0.02)}, things={"evaluate/duplicates": (0.1, 0.7, 0.02)}
    )
    for _ in range(300):
        gone = generator.sample(sorted(bad.metrics), generator.randint(1, 12))
        metrics = {key: found for key, found in bad.metrics.items() if key not in gone}
        assert decide(bad.model_copy(update={"metrics": metrics}), SECTION).decision != "PROMOTE"


def test_a_win_rate_alone_never_promotes() -> None:
    verdict = decide(report_of().model_copy(update={"metrics": {WIN_RATE: figure(0.99, 0.005)}}), SECTION)
    assert verdict.decision == "INSUFFICIENT"


def test_a_constant_answer_is_rejected_for_its_repetitions() -> None:
    constant = {
        "evaluate/distinct_2": (0.40, 0.001, 0.001), "evaluate/distinct_4": (0.60, 0.001, 0.001),
        "evaluate/duplicates": (0.10, 1.0, 0.003),
    }  # fmt: skip
    verdict = decide(
        report_of({WIN_RATE: figure(0.865, 0.02), CONTROLLED: figure(0.865, 0.02)}, things=constant), SECTION
    )
    assert verdict.decision == "REJECT"
    assert {("budget", DUPLICATES), ("non-inferiority", "evaluate/distinct_2/new")} <= set(why(verdict))


def test_a_judge_that_is_pleased_while_the_truth_falls_is_a_veto() -> None:
    verdict = decide(report_of({TRUTH: figure(-0.04, 0.02)}), SECTION)
    assert verdict.decision == "REJECT" and ("reward hacking", TRUTH) in why(verdict)


def test_a_win_rate_that_is_length_is_not_promoted() -> None:
    verdict = decide(report_of({CONTROLLED: figure(0.51, 0.03)}), SECTION)
    assert verdict.decision == "HOLD" and set(why(verdict)) == {("reward hacking", CONTROLLED)}
    assert any("more than half of the gain is length" in reason.text for reason in verdict.deciding)
    assert decide(report_of({CONTROLLED: figure(0.44, 0.03)}), SECTION).decision == "REJECT"


@pytest.mark.parametrize(
    ("thing", "change", "decision"),
    [
        ("evaluate/words", (50.0, 100.0, 2.0), "REJECT"),
        ("evaluate/words", (50.0, 20.0, 1.0), "REJECT"),
        ("evaluate/words", (50.0, 74.0, 2.0), "HOLD"),
        ("evaluate/words", (0.0, 20.0, 1.0), "INSUFFICIENT"),
        ("evaluate/truncated", (0.0, 0.2, 0.02), "REJECT"),
        ("evaluate/truncated", (0.0, 0.05, 0.02), "HOLD"),
        ("evaluate/duplicates", (0.45, 0.49, 0.03), "HOLD"),
    ],
)
def test_budgets_and_margins_hold(thing, change, decision) -> None:
    assert decide(report_of(things={thing: change}), SECTION).decision == decision


def test_kl_has_a_budget_that_can_be_lifted() -> None:
    moved = report_of({KL: figure(30.0, 2.0)})
    assert decide(moved, SECTION).decision == "REJECT"
    assert decide(moved, GateSection(max_kl=None)).decision == "PROMOTE"
    assert decide(report_of({KL: figure(9.9, 2.0)}), SECTION).decision == "HOLD"


def test_later_attempts_need_more() -> None:
    near = report_of({WIN_RATE: figure(0.535, 0.03), CONTROLLED: figure(0.535, 0.03)})
    decisions = [decide(near, SECTION, Standing(attempt=attempt)).decision for attempt in (1, 2, 3)]
    assert decisions == ["PROMOTE", "HOLD", "HOLD"]


def test_another_judge_or_constitution_or_parent_is_not_comparable() -> None:
    for standing, metric in (
        (Standing(judge="judge-0"), "identity/judge"),
        (Standing(constitution="f00d"), "identity/constitution"),
        (Standing(parent="cccc"), "identity/models"),
    ):
        verdict = decide(report_of(), SECTION, standing)
        assert verdict.decision == "INSUFFICIENT" and why(verdict) == [("validity", metric)]
    assert (
        decide(report_of(), SECTION, Standing(judge="judge-1", constitution="cafe", parent="aaaa")).decision
        == "PROMOTE"
    )
    assert decide(report_of(judge=""), SECTION).decision == "INSUFFICIENT"


def test_small_samples_weak_power_and_unreadable_verdicts_are_insufficient() -> None:
    assert decide(report_of({WIN_RATE: figure(0.9, 0.03, clusters=20)}), SECTION).decision == "INSUFFICIENT"
    assert decide(report_of({WIN_RATE: figure(0.8, 0.15)}), SECTION).decision == "INSUFFICIENT"
    counts = {f"evaluate/win_rate.all/{name}": 50 for name in ("wins", "losses", "failed")}
    assert decide(report_of(counts=counts), SECTION).decision == "INSUFFICIENT"


def test_a_judge_that_does_not_agree_with_gold_decides_nothing() -> None:
    key = "evaluate/people.all/accuracy"
    assert decide(report_of({key: figure(0.61, 0.05)}), SECTION).decision == "INSUFFICIENT"
    assert decide(report_of({key: figure(0.75, 0.05)}), GateSection(require_gold=True)).decision == "PROMOTE"
    assert decide(report_of(), GateSection(require_gold=True)).decision == "INSUFFICIENT"


def test_required_metrics_are_required() -> None:
    section = GateSection(required=("evaluate/heldout_nll/new",))
    assert why(decide(report_of(), section)) == [("validity", "evaluate/heldout_nll/new")]


def test_losses_against_the_first_policy_add_up() -> None:
    first = first_figures(report_of())
    later = report_of(things={"evaluate/distinct_2": (0.31, 0.30, 0.01)}, old="parent (dddd)")
    assert decide(later, SECTION).decision == "PROMOTE"
    verdict = decide(later, SECTION, Standing(first=first, parent="dddd"))
    assert verdict.decision == "HOLD" and "the first policy" in verdict.deciding[0].text
    further = report_of(things={"evaluate/distinct_2": (0.21, 0.20, 0.01)})
    assert decide(further, SECTION, Standing(first=first)).decision == "REJECT"


def test_what_was_known_of_the_first_policy_must_be_known_again() -> None:
    first = first_figures(report_of())
    verdict = decide(report_of(without=("evaluate/compliance.all/new", TRUTH)), SECTION, Standing(first=first))
    assert verdict.decision == "INSUFFICIENT" and why(verdict)[0][1] == "evaluate/compliance.all/new"
    del first["evaluate/words"], first["evaluate/distinct_2"]
    verdict = decide(report_of(), SECTION, Standing(first=first))
    assert {metric for _, metric in why(verdict)} == {WORDS, "evaluate/distinct_2/new"}


def test_a_margin_on_a_thing_without_a_better_side_holds_both_ways() -> None:
    section = GateSection(margins={"taste": 0.1})
    for after, decision in ((0.5, "PROMOTE"), (0.7, "REJECT"), (0.3, "REJECT")):
        assert decide(report_of(things={"evaluate/taste": (0.5, after, 0.02)}), section).decision == decision


def test_the_hash_of_the_evidence_forgets_only_the_time() -> None:
    report = report_of()
    later = report.model_copy(update={"identity": report.identity.model_copy(update={"finished": "2026-01-01"})})
    assert evidence_hash(later) == evidence_hash(report) != evidence_hash(report_of({KL: figure(2.1, 0.2)}))


def test_a_verdict_is_read_as_it_was_written(tmp_path) -> None:
    verdict = decide(report_of(), SECTION)
    write_gate(tmp_path / "gate.json", verdict)
    assert read_gate(tmp_path / "gate.json") == verdict and read_gate(tmp_path / "none.json") is None
    (tmp_path / "gate.json").write_text("{}")
    with pytest.raises(StoreError, match="ratify gate"):
        read_gate(tmp_path / "gate.json")


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValidationError, match="margin of 'distinct_2'"):
        GateSection(margins={"distinct_2": 0.0})
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        load_config(ROOT / "configs" / "demo.toml", ["gate.alhpa=0.1"])
    assert load_config(ROOT / "configs" / "demo.toml", ["gate.alpha=0.1"]).gate.alpha == 0.1


def test_the_first_screen_of_page_and_terminal_shows_the_verdict() -> None:
    report = report_of({WIN_RATE: figure(0.5, 0.03), KL: figure(30.0, 2.0)})
    verdict = decide(report, SECTION)
    page, plain = render_html(report, verdict), plain_text(report, gate=verdict)
    assert page.index("Gate: REJECT") < page.index("</header>") and 'class="gate reject"' in page
    assert all(reason.metric and f"{reason.status}:" in plain for reason in verdict.deciding)
    assert plain.index("Gate: REJECT") < plain.index("figure")
    assert "Gate:" not in render_html(report) and "Gate:" not in plain_text(report)


def test_the_terminal_shows_the_worst_reasons_and_counts_the_rest() -> None:
    report = report_of(without=("evaluate/distinct_2/new", "evaluate/distinct_4/new", KL, WORDS, DUPLICATES))
    verdict = decide(report, SECTION)
    plain = plain_text(report, gate=verdict)
    assert len(verdict.deciding) > 4 and f"and {len(verdict.deciding) - 4} more" in plain
