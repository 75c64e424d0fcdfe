"""Win rate of a new policy over an old one, from the labels of its pairs, as a whole and by principle.

A tie counts one half. A failed label is no evidence: it is left out and counted. Pairs of one prompt share its
difficulty and are one cluster. The rate says what the *judge* prefers; whether it is right is `agreement`'s question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, mean
from ratify.types import Label

CREDIT = {"new": 1.0, "tie": 0.5, "old": 0.0}


class WinRate(NamedTuple):
    """How often the new policy's reply was preferred."""

    estimate: Estimate
    """(wins + ties / 2) / decided pairs."""
    wins: int
    ties: int
    losses: int
    failed: int
    """Pairs left out because the judge gave no readable verdict."""


def outcome_for(label: Label, new: Set[str]) -> str:
    """Whose reply the label prefers: `new`, `old`, `tie` or `failed`; `new` holds the new policy's completion ids."""
    if (label.a_id in new) == (label.b_id in new):
        raise ValueError(f"pair {label.a_id} | {label.b_id} does not compare the new policy with the old one")
    if label.outcome in ("tie", "failed"):
        return label.outcome
    return "new" if (label.outcome == "a") == (label.a_id in new) else "old"


def log_odds_for(label: Label, new: Set[str]) -> dict[str, float]:
    """Each principle's log-odds in favour of the new policy's reply."""
    sign = 1.0 if label.a_id in new else -1.0
    return {principle: sign * value for principle, value in label.by_principle.items()}


def win_rate(labels: Sequence[Label], new: Set[str], how: Resampling = STANDARD) -> WinRate:
    """Win rate of the new policy by the labels' outcomes.

    Args:
        labels: one per pair of a new and an old reply to the same prompt.
        new: ids of the new policy's completions.
        how: interval settings; the clusters are prompts.

    Raises:
        EvidenceError: when no pair was decided.
    """
    return _rate([(label.prompt_id, outcome_for(label, new)) for label in labels], how, "win rate")


def principle_win_rates(
    labels: Sequence[Label], new: Set[str], tie_band: float = 0.0, how: Resampling = STANDARD
) -> dict[str, WinRate]:
    """Win rate by each principle alone, whatever its weight.

    A principle's log-odds within `tie_band` of zero are a tie. A pair in which the principle has no log-odds counts as
    failed for it, also when it simply did not apply. Principles without a single decided pair are absent.
    """
    odds = [(label.prompt_id, log_odds_for(label, new)) for label in labels]
    principles = sorted({principle for _, by_principle in odds for principle in by_principle})
    rates = {}
    for principle in principles:
        outcomes = [(prompt, _sided(values.get(principle), tie_band)) for prompt, values in odds]
        rates[principle] = _rate(outcomes, how, f"win rate of {principle}")
    return rates


def _sided(log_odds: float | None, tie_band: float) -> str:
    if log_odds is None:
        return "failed"
    if abs(log_odds) <= tie_band:
        return "tie"
    return "new" if log_odds > 0 else "old"


def _rate(outcomes: Iterable[tuple[str, str]], how: Resampling, what: str) -> WinRate:
    outcomes = list(outcomes)
    decided = [(prompt, CREDIT[outcome]) for prompt, outcome in outcomes if outcome in CREDIT]
    if not decided:
        raise EvidenceError(f"{what}: none of {len(outcomes)} pairs has a readable verdict")
    counts = {side: sum(outcome == side for _, outcome in outcomes) for side in ("new", "tie", "old", "failed")}
    estimate = mean([credit for _, credit in decided], [prompt for prompt, _ in decided], how, share=True)
    return WinRate(estimate, counts["new"], counts["tie"], counts["old"], counts["failed"])
