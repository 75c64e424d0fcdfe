"""Shares of better, worse, tied and failed revisions: worked by hand, clustered by prompt."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from evaluation.compliance import compliance
from evaluation.intervals import Resampling
from evaluation.revision_page import render_revisions
from evaluation.revision_terminal import print_revisions
from evaluation.revisions import (
    OUTCOMES,
    JudgedStep,
    RevisionReport,
    ShownReply,
    ShownStep,
    most_moved,
    own_outcome,
    read_revision_report,
    summarise_revisions,
    write_revision_report,
)
from ratify.errors import StoreError
from ratify.types import Completion, RevisionOutcome

HOW = Resampling(draws=500)


def step(
    prompt: str,
    number: int,
    against_first: RevisionOutcome,
    before: RevisionOutcome,
    own: RevisionOutcome | None,
    principle: str = "kind",
) -> JudgedStep:
    return JudgedStep(prompt, number, number == 2, principle, against_first, before, own, first_tokens=10, tokens=15)


def printed(report: RevisionReport) -> str:
    out = StringIO()
    print_revisions(report, Console(file=out, width=100))
    return out.getvalue()


STEPS = [
    step("p", 1, "better", "better", "better"), step("p", 2, "worse", "worse", "tied", "true"),
    step("q", 1, "tied", "tied", None), step("q", 2, "better", "better", "better"),
    step("r", 1, "worse", "worse", "worse", "true"), step("r", 2, "better", "tied", "failed"),
    step("s", 1, "failed", "failed", "better", "true"), step("s", 2, "failed", "better", "better", "true"),
]  # fmt: skip


def test_shares_by_hand() -> None:
    report = summarise_revisions(STEPS, {"revised/pairs/count": 2}, HOW)
    value = {key: estimate.value for key, estimate in report.metrics.items()}
    assert [value[f"revised/last/{name}"] for name in OUTCOMES] == [0.5, 0.25, 0.0, 0.25]
    assert [value[f"revised/step.1/{name}"] for name in OUTCOMES] == [0.25, 0.25, 0.25, 0.25]
    assert [value[f"revised/step.2/{name}"] for name in OUTCOMES] == [0.5, 0.25, 0.0, 0.25]
    assert [value[f"revised/change.2/{name}"] for name in OUTCOMES] == [0.5, 0.25, 0.25, 0.0]
    assert [value[f"revised/principle.kind/{name}"] for name in OUTCOMES] == [0.5, 0.0, 0.5, 0.0]
    # Of the four steps that drew `kind` one is not judged by it, so three are left.
    assert [value[f"revised/own.kind/{name}"] for name in OUTCOMES] == pytest.approx([2 / 3, 0, 0, 1 / 3])
    assert value["revised/length/ratio"] == 1.5
    assert report.counts == {"revised/pairs/count": 2}


def test_outcomes_of_every_comparison_add_up_to_one() -> None:
    metrics = summarise_revisions(STEPS, {}, HOW).metrics
    for key in {key.rpartition("/")[0] for key in metrics} - {"revised/length"}:
        assert sum(metrics[f"{key}/{name}"].value for name in OUTCOMES) == pytest.approx(1)


def test_replies_to_one_prompt_are_one_cluster() -> None:
    """Ten prompts with eight equal outcomes each know no more than ten prompts with one."""
    rng = np.random.default_rng(0)
    drawn: list[RevisionOutcome] = ["better" if each else "worse" for each in rng.integers(0, 2, 10)]
    once = [step(f"p{i}", 2, outcome, outcome, outcome) for i, outcome in enumerate(drawn)]
    (wide, many) = (summarise_revisions(steps, {}, HOW).metrics["revised/last/better"] for steps in (once, once * 8))
    assert (wide.n, many.n, many.clusters) == (10, 80, 10)
    assert (many.low, many.high) == pytest.approx((wide.low, wide.high))


def test_what_is_true_stands_beside_what_the_judge_says() -> None:
    blank = {"text": "t", "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "seed": 0}
    replies = [
        Completion.model_validate({"id": f"{p}/{k}", "prompt_id": p, **blank})
        for p in "pqrs"
        for k in ("first", "last")
    ]
    facts = {reply.id: {"kind": reply.id in ("p/first", "p/last", "q/first")} for reply in replies}
    truth = compliance(replies[::2], replies[1::2], facts, HOW)
    report = summarise_revisions(STEPS, {}, HOW, truth=truth)
    found = [report.metrics[f"revised/compliance.kind/{stat}"].value for stat in ("first", "last", "difference")]
    assert found == [0.5, 0.25, -0.25]
    assert "true compliance" in printed(report) and "true compliance" in render_revisions(report)
    assert "true compliance" not in printed(summarise_revisions(STEPS, {}, HOW))


def test_the_sign_of_a_principles_log_odds_is_read_from_the_reply_before() -> None:
    assert [own_outcome(value) for value in (1.0, -0.1, 0.0, None)] == ["worse", "better", "tied", "failed"]


def test_a_report_is_read_back_and_printed(tmp_path: Path) -> None:
    report = summarise_revisions(STEPS, {"revised/pairs/count": 2}, HOW)
    write_revision_report(tmp_path / "revisions.json", report)
    assert read_revision_report(tmp_path / "revisions.json") == report
    text = printed(report)
    assert "prefers the last revision in 50% and the first reply in 25% of 4 replies" in text
    assert "2 against 1" in text and "1.50 times as long" in text and "no better than" not in text


def test_revisions_that_do_not_help_are_warned_of() -> None:
    report = summarise_revisions([step("p", 2, "worse", "worse", "worse")], {}, HOW)
    assert "no better than the first replies" in printed(report)


def test_nothing_revised_is_said_and_not_computed() -> None:
    report = summarise_revisions([], {}, HOW)
    assert report.metrics == {}
    assert "nothing to compare" in printed(report)


def shown(name: str, probability: float | None) -> ShownReply:
    step = ShownStep(
        principle="kind", critique=f"<b>{name}</b>", revision="r", outcome="better", probability=probability
    )
    return ShownReply(prompt="User: hello", first="<script>alert(1)</script>", steps=(step,))


def test_the_page_shows_what_moved_most_and_escapes_it() -> None:
    replies = [shown(f"c{number}", number / 100) for number in range(100)] + [shown("lost", None)]
    picked = most_moved(replies, 4)
    assert [reply.steps[0].critique for reply in picked] == ["<b>c99</b>", "<b>c98</b>", "<b>c1</b>", "<b>c0</b>"]
    page = render_revisions(summarise_revisions(STEPS, {}, HOW, title="run", replies=replies))
    assert "<script" not in page and "<b>c99" not in page and "&lt;b&gt;c99" in page and "c50&lt;" not in page
    assert "Content-Security-Policy" in page and "http" not in page.replace("http-equiv", "")
    assert "its own better" in page and "2 against 1" in page


def test_a_report_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="run `ratify revise` again"):
        read_revision_report(tmp_path / "revisions.json")
