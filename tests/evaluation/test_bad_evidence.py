"""What is broken or absent makes the gate say INSUFFICIENT with the reason; it never passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.anchor import read_anchor
from evaluation.gate import decide
from evaluation.plain_files import compare_files
from evaluation.report import Evidence
from evaluation.summary import summarise
from ratify.errors import InputError
from ratify.gate_section import GateSection

Change = Callable[[Evidence], Evidence]
SECTION = GateSection(detectable_win_rate=0.5, required=("evaluate/compliance.all/difference",))


def silent(evidence: Evidence) -> Evidence:
    """Every reply of both policies is empty, and nobody could score or judge it."""
    old, new = (
        [reply.model_copy(update={"text": "", "completion_tokens": 0}) for reply in side]
        for side in (evidence.old, evidence.new)
    )
    return replace(evidence, old=old, new=new, scored=(), rewards={})


def unscorable(evidence: Evidence) -> Evidence:
    scored = [row.model_copy(update={"log_new": float("nan")}) for row in evidence.scored]
    return replace(evidence, scored=scored)


def other_tokenizer(evidence: Evidence) -> Evidence:
    scored = [row.model_copy(update={"reference_tokens": row.tokens + 1}) for row in evidence.scored]
    return replace(evidence, scored=scored)


def unjudged(evidence: Evidence) -> Evidence:
    return replace(evidence, heldout=replace(evidence.heldout, labels=(), verdicts=()))


@pytest.mark.parametrize(
    ("change", "said"),
    [(silent, "KL"), (unscorable, "no finite"), (other_tokenizer, "other tokens"), (unjudged, "win rate")],
)
def test_broken_evidence_is_insufficient_with_its_reason(evidence: Evidence, change: Change, said: str) -> None:
    report = summarise(change(evidence))
    verdict = decide(report, SECTION)
    assert verdict.decision == "INSUFFICIENT"
    told = " ".join([*(reason.text for reason in verdict.reasons), *report.missing.values()])
    assert said.lower() in told.lower()


def test_an_absent_anchor_that_the_gate_asks_for_is_insufficient(evidence: Evidence) -> None:
    for thing in ("rare_mass", "anchor_nll"):
        section = SECTION.model_copy(update={"margins": {thing: 0.05}})
        verdict = decide(summarise(evidence), section)
        assert verdict.decision == "INSUFFICIENT"
        assert any(thing in reason.metric and "anchor" in reason.text for reason in verdict.reasons) or any(
            thing in reason.metric for reason in verdict.deciding
        )


def test_one_reply_a_prompt_has_no_spread_within_prompts_and_cannot_be_held_to_one(evidence: Evidence) -> None:
    old, new = evidence.old[::2], evidence.new[::2]
    kept = {reply.id for reply in (*old, *new)}
    labels = [label for label in evidence.heldout.labels if {label.a_id, label.b_id} <= kept]
    once = replace(evidence, old=old, new=new, heldout=replace(evidence.heldout, labels=labels))
    report = summarise(once)
    assert "within_prompts" in report.missing
    section = SECTION.model_copy(update={"margins": {"within_prompts": 0.05}})
    assert decide(report, section).decision == "INSUFFICIENT"


def test_files_that_are_not_utf_8_are_one_sentence(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    bad.write_bytes(b'{"prompt_id": "p", "text": "caf\xe9"}\n')
    good.write_text('{"prompt_id": "p", "text": "so"}\n')
    with pytest.raises(InputError, match="UTF-8"):
        compare_files(good, bad)
    with pytest.raises(InputError, match="UTF-8"):
        read_anchor(bad)
