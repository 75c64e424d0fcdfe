"""Did critique-and-revision make replies better, by the judge: shares with intervals, by step and by principle.

Each share is over all compared pairs, so better + worse + tied + failed is 1; a failed label is never a tie. Replies
to one prompt are one cluster. Two comparisons are kept apart: a revision against the *first* reply (what training
would gain), and against the reply *before* it (what its own step did). The latter is also read by the drawn principle
alone, whatever its weight. The figures say what the judge prefers; a judge that is the reviser's own model, or that
likes long replies, prefers its revisions for the wrong reason, so the change of length stands beside them.

Keys: `revised/last/<outcome>` (last revision against the first reply), `revised/step.<n>/<outcome>` (n-th against the
first), `revised/change.<n>/<outcome>` (n-th against the one before), `revised/principle.<id>/<outcome>` (steps that
drew it, against the reply before), `revised/own.<id>/<outcome>` (the same by that principle alone),
`revised/length/ratio` (tokens of the last revision by those of the first reply), and
`revised/compliance.<property>/first|last|difference` where the truth is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from evaluation.compliance import Compared
from evaluation.intervals import STANDARD, Estimate, Resampling, mean, ratio
from ratify.errors import StoreError
from ratify.files import write_text
from ratify.types import Record, RevisionOutcome

OUTCOMES: tuple[RevisionOutcome, ...] = ("better", "worse", "tied", "failed")


class JudgedStep(NamedTuple):
    """One revision and what the judge said of it."""

    prompt_id: str
    number: int
    """From 1."""
    is_last: bool
    """Whether it is the last one that was asked for."""
    principle: str
    against_first: RevisionOutcome
    against_before: RevisionOutcome
    own: RevisionOutcome | None
    """Against the reply before, by the drawn principle alone; None where the judge does not apply it."""
    first_tokens: int
    tokens: int


class ShownStep(Record):
    """One critique and revision to be read."""

    principle: str
    critique: str
    revision: str
    outcome: RevisionOutcome
    """Against the first reply."""
    probability: float | None
    """P(better than the first reply)."""


class ShownReply(Record):
    """A reply with its critiques and revisions, to be read."""

    prompt: str
    first: str
    steps: tuple[ShownStep, ...]


class RevisionReport(Record):
    """Every figure by metric key, and replies to read."""

    title: str
    metrics: dict[str, Estimate]
    counts: dict[str, int]
    examples: tuple[ShownReply, ...] = ()


def most_moved(replies: Sequence[ShownReply], count: int = 24) -> tuple[ShownReply, ...]:
    """Half of them those whose last revision gained most, half those that lost most, best first."""
    rated = [(reply.steps[-1].probability, reply) for reply in replies if reply.steps]
    ranked = [reply for _, reply in sorted(((p, r) for p, r in rated if p is not None), key=lambda each: -each[0])]
    return tuple(ranked if len(ranked) <= count else [*ranked[: count // 2], *ranked[-(count // 2) :]])


def summarise_revisions(
    steps: Sequence[JudgedStep],
    counts: dict[str, int],
    how: Resampling = STANDARD,
    *,
    title: str = "",
    replies: Sequence[ShownReply] = (),
    truth: Mapping[str, Compared] | None = None,
) -> RevisionReport:
    """The shares of each comparison; one without a single pair is absent.

    Args:
        steps: All revisions that were made.
        counts: By metric key.
        how: Interval settings; the clusters are prompts.
        title: What the report is about.
        replies: To choose from what is shown.
        truth: True compliance of the first replies (old) and the last revisions (new), where a world computes it.
    """
    metrics: dict[str, Estimate] = {}
    last = [step for step in steps if step.is_last]
    metrics |= _shares("revised/last", ((step.prompt_id, step.against_first) for step in last), how)
    for number in sorted({step.number for step in steps}):
        these = [step for step in steps if step.number == number]
        metrics |= _shares(f"revised/step.{number}", ((step.prompt_id, step.against_first) for step in these), how)
        metrics |= _shares(f"revised/change.{number}", ((step.prompt_id, step.against_before) for step in these), how)
    for principle in sorted({step.principle for step in steps}):
        drawn = [step for step in steps if step.principle == principle]
        metrics |= _shares(
            f"revised/principle.{principle}", ((each.prompt_id, each.against_before) for each in drawn), how
        )
        own = ((each.prompt_id, each.own) for each in drawn if each.own)
        metrics |= _shares(f"revised/own.{principle}", own, how)
    if sum(step.first_tokens for step in last):
        lengths = [step.tokens for step in last], [step.first_tokens for step in last]
        metrics["revised/length/ratio"] = ratio(*lengths, [step.prompt_id for step in last], how)
    for name, compared in (truth or {}).items():
        figures = {"first": compared.old, "last": compared.new, "difference": compared.difference}
        metrics |= {f"revised/compliance.{name}/{stat}": figure for stat, figure in figures.items()}
    return RevisionReport(title=title, metrics=metrics, counts=counts, examples=most_moved(replies))


def own_outcome(log_odds: float | None) -> RevisionOutcome:
    """What a principle's log-odds in favour of the reply before say of the revision."""
    if log_odds is None:
        return "failed"
    return "tied" if log_odds == 0 else "worse" if log_odds > 0 else "better"


def write_revision_report(path: Path, report: RevisionReport) -> None:
    """Write every figure as JSON."""
    write_text(path, report.model_dump_json(indent=2) + "\n")


def read_revision_report(path: Path) -> RevisionReport:
    """Read back what `write_revision_report` wrote.

    Raises:
        StoreError: the file is gone or not of this version.
    """
    try:
        return RevisionReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        raise StoreError(f"{path} is no revision report of this version; run `ratify revise` again") from None


def _shares(key: str, outcomes: Iterable[tuple[str, RevisionOutcome]], how: Resampling) -> dict[str, Estimate]:
    """Share of each outcome over all pairs; empty without a pair."""
    found = list(outcomes)
    prompts = [prompt for prompt, _ in found]
    if not found:
        return {}
    return {
        f"{key}/{name}": mean([float(outcome == name) for _, outcome in found], prompts, how, share=True)
        for name in OUTCOMES
    }
