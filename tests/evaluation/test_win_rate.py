"""Win rates worked by hand."""

import pytest

from evaluation.intervals import EvidenceError
from evaluation.win_rate import log_odds_for, outcome_for, principle_win_rates, win_rate
from ratify.types import Label

NEW = {"p/new/0", "q/new/0", "r/new/0", "s/new/0"}


def label(prompt: str, outcome: str, *, new_first: bool = True, **odds: float) -> Label:
    sides = (f"{prompt}/new/0", f"{prompt}/old/0")
    a_id, b_id = sides if new_first else sides[::-1]
    return Label(
        prompt_id=prompt, a_id=a_id, b_id=b_id, outcome=outcome, probability=None, margin=None, by_principle=odds
    )


def test_ties_count_one_half_and_failures_nothing() -> None:
    """Win, tie, loss, failed: (1 + 0.5 + 0) / 3."""
    labels = [label("p", "a"), label("q", "tie"), label("r", "b"), label("s", "failed")]
    found = win_rate(labels, NEW)
    assert found.estimate.value == pytest.approx(0.5)
    assert (found.wins, found.ties, found.losses, found.failed) == (1, 1, 1, 1)
    assert found.estimate.n == 3


def test_the_side_does_not_matter() -> None:
    assert outcome_for(label("p", "b", new_first=False), NEW) == "new"
    assert outcome_for(label("p", "a", new_first=False), NEW) == "old"
    assert log_odds_for(label("p", "b", new_first=False, polite=-2.0), NEW) == {"polite": 2.0}


def test_swapping_policies_mirrors_the_rate() -> None:
    labels = [label("p", "a"), label("q", "a"), label("r", "b")]
    old = {name.replace("new", "old") for name in NEW}
    assert win_rate(labels, NEW).estimate.value + win_rate(labels, old).estimate.value == pytest.approx(1.0)


def test_principles_count_by_themselves() -> None:
    labels = [
        label("p", "a", polite=2.0, honest=-1.0),
        label("q", "a", polite=1.0, honest=0.0),
        label("r", "failed", polite=0.5),
    ]
    found = principle_win_rates(labels, NEW)
    assert found["polite"].estimate.value == 1.0
    assert (found["honest"].losses, found["honest"].ties, found["honest"].failed) == (1, 1, 1)
    assert found["honest"].estimate.value == pytest.approx(0.25)


def test_tie_band_is_in_log_odds() -> None:
    found = principle_win_rates([label("p", "a", polite=0.3), label("q", "a", polite=0.6)], NEW, tie_band=0.5)
    assert (found["polite"].wins, found["polite"].ties) == (1, 1)


def test_only_failures_are_no_evidence() -> None:
    with pytest.raises(EvidenceError, match="none of 1 pairs"):
        win_rate([label("p", "failed")], NEW)


def test_pairs_within_one_policy_are_refused() -> None:
    with pytest.raises(ValueError, match="does not compare"):
        win_rate([label("z", "a")], NEW)
