"""Compliance by hand."""

import pytest

from evaluation.compliance import compliance
from evaluation.intervals import EvidenceError
from ratify.types import Completion


def reply(policy: str, prompt: int) -> Completion:
    return Completion(
        id=f"p{prompt}/{policy}/0", prompt_id=f"p{prompt}", text="x", finish_reason="stop", prompt_tokens=1,
        completion_tokens=1, seed=0,
    )  # fmt: skip


OLD, NEW = [reply("old", at) for at in range(4)], [reply("new", at) for at in range(4)]


def test_every_property_at_once() -> None:
    known = {one.id: {"safe": True, "polite": at < 1} for at, one in enumerate(OLD)}
    known |= {one.id: {"safe": at != 0, "polite": True} for at, one in enumerate(NEW)}
    found = compliance(OLD, NEW, known)
    assert list(found) == ["all", "safe", "polite"]
    assert (found["all"].old.value, found["all"].new.value) == (0.25, 0.75)
    assert found["safe"].difference.value == pytest.approx(-0.25)
    assert found["polite"].difference.value == pytest.approx(0.75)


def test_replies_without_known_truth_are_left_out() -> None:
    known = {OLD[0].id: {"safe": True}, NEW[0].id: {"safe": False}, NEW[1].id: {"safe": True}}
    found = compliance(OLD, NEW, known)
    assert (found["safe"].old.n, found["safe"].new.n) == (1, 2)


def test_truth_for_one_policy_only_is_no_evidence() -> None:
    with pytest.raises(EvidenceError):
        compliance(OLD, NEW, {OLD[0].id: {"safe": True}})
