"""The records across rounds: what goes in, and the one machine-written report that comes out (`rounds.json`).

A figure of a policy is drawn at the round that trained it; the first policy stands before round 0. The A/A band of a
metric says how far the figure of one and the same policy moves when its replies are sampled again: rounds measure their
starting policy afresh, so the spread among measurements of equal weights (Snedecor and Cochran's pooled variance) is
at hand without any further run. It holds no spread of training; where no policy was measured twice there is no band.

Curves of what a judge says are never joined across a change of judge or constitution: that would compare two rulers.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field
from scipy.special import stdtrit

from evaluation.catalog import ITEMS, quantity, split_key, title
from evaluation.intervals import Estimate
from evaluation.judge_quality import JudgeQuality
from ratify.errors import StoreError
from ratify.files import write_text
from ratify.types import Record

LEAST_REPEATS = 2
"""Degrees of freedom that a band needs; with one, Student's t is 12.7."""
BAND = 0.95
MOVED = 0.02
"""Smallest relative change of a figure that a sentence speaks of."""


class RoundFigures(Record):
    """One closed round."""

    number: int
    decision: str
    reason: str
    reasons: tuple[str, ...] = ()
    """All that stood against promotion."""
    promoted: bool
    old: str
    """Digest of the policy that it started from."""
    new: str
    parent: int | None
    """The round that trained the policy that it started from; None for the first policy."""
    trained_from: str = "start"
    seed: int
    judge: str
    constitution: str
    constitution_version: str = ""
    finished: str
    data: dict[str, int] = Field(default_factory=dict)
    """Where its training pairs came from → how many."""
    dropped: int = 0
    """Training prompts left out as evaluation prompts."""
    tags: dict[str, float] = Field(default_factory=dict)
    """Share of training prompts by tag."""
    metrics: dict[str, Estimate]
    missing: dict[str, str] = Field(default_factory=dict)


class RoundEvent(Record):
    """Something that changes what the curves mean."""

    before: int
    """The round that it precedes; one more than the last for what came after all."""
    kind: Literal["constitution", "judge", "promotion", "rollback", "epoch", "refusal"]
    text: str
    time: str = ""


class Repeated(Record):
    """A phrase that many replies share."""

    text: str
    prompts: int


class SideBySide(Record):
    """One held-out prompt answered by the first policy, the parent and the new one."""

    group: Literal["gain", "loss", "random"]
    prompt: str
    first: str
    parent: str
    new: str
    outcome: str
    """What the judge said of new against parent."""
    margin: float | None = None
    by_principle: dict[str, float] = Field(default_factory=dict)
    verdicts: tuple[str, ...] = ()
    """What the judge said of this prompt's new reply against its parent in each round, oldest first."""


class FlipMatrix(Record):
    """What the judge said of the same held-out places in two rounds that follow each other."""

    earlier: int
    later: int
    counts: dict[str, dict[str, int]]
    """Outcome in the earlier round → outcome in the later one → places."""


class RoundsReport(Record):
    """Everything that the page across rounds shows."""

    format: Literal["ratify.rounds/1"] = "ratify.rounds/1"
    run: str
    goal: str = ""
    """Why no further round begins; empty while nothing stops it."""
    start_from: str
    data: str
    confidence: float = 0.95
    rounds: tuple[RoundFigures, ...]
    events: tuple[RoundEvent, ...] = ()
    phrases: dict[str, tuple[Repeated, ...]] = Field(default_factory=dict)
    """`first`, then each round's number → its most shared phrases."""
    flips: tuple[FlipMatrix, ...] = ()
    judges: dict[str, JudgeQuality] = Field(default_factory=dict)
    """Round → what its canaries said of the judge."""
    samples: tuple[SideBySide, ...] = ()


def write_rounds(path: Path, report: RoundsReport) -> None:
    """Write rounds.json whole or not at all."""
    write_text(path, report.model_dump_json(indent=1) + "\n")


def read_rounds_report(path: Path) -> RoundsReport:
    """Read back what `write_rounds` wrote.

    Raises:
        StoreError: it is missing or of another version.
    """
    try:
        return RoundsReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a report across rounds of this version; run `ratify rounds` again") from error


def changes(rounds: Sequence[RoundFigures]) -> list[RoundEvent]:
    """Rounds before which the judge or the constitution became another."""
    found = []
    for before, after in itertools.pairwise(rounds):
        if before.judge != after.judge:
            found.append(RoundEvent(before=after.number, kind="judge", text=f"judge {after.judge[:16]}"))
        if before.constitution != after.constitution:
            text = f"constitution {after.constitution_version} ({after.constitution[:12]})"
            found.append(RoundEvent(before=after.number, kind="constitution", text=text))
    return found


def measurements(rounds: Iterable[RoundFigures], stem: str) -> dict[str, list[float]]:
    """Digest of a policy → every measurement of it; `stem` is a metric key without its stat."""
    found: dict[str, list[float]] = defaultdict(list)
    for each in rounds:
        for digest, stat in ((each.old, "old"), (each.new, "new")):
            if (estimate := each.metrics.get(f"{stem}/{stat}")) is not None:
                found[digest].append(estimate.value)
    return found


def band(rounds: Sequence[RoundFigures], stem: str) -> float | None:
    """Half the width of the A/A band of a difference between two measurements of one policy; None without repeats,
    and where the same answers are counted again.

    t(0.975, f) · s · sqrt(2), where s² pools the squared deviations of measurements of the same weights over their f
    degrees of freedom.
    """
    if split_key(f"{stem}/new").thing in ITEMS:
        return None
    repeats = [values for values in measurements(rounds, stem).values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeats)
    if freedom < LEAST_REPEATS:
        return None
    squares = sum(sum((value - math.fsum(of) / len(of)) ** 2 for value in of) for of in repeats)
    return float(stdtrit(freedom, (1 + BAND) / 2)) * math.sqrt(2 * squares / freedom)


def worsened(rounds: Sequence[RoundFigures]) -> list[str]:
    """Figures of the newest policy that lie on the worse side of the first policy's, interval clear of interval."""
    if not rounds:
        return []
    first, last, told = rounds[0].metrics, rounds[-1].metrics, []
    for key in (key for key in last if key.endswith("/new")):
        parts, stem = split_key(key), key.removesuffix("/new")
        of, old, new = quantity(parts.thing), first.get(f"{stem}/old"), last[key]
        if old is None or None in (old.low, old.high, new.low, new.high) or of.better == "neither":
            continue
        fell = of.better == "up" and (new.high or 0.0) < (old.low or 0.0)
        rose = of.better == "down" and (new.low or 0.0) > (old.high or 0.0)
        if (fell or rose) and abs(new.value - old.value) > MOVED * abs(old.value):
            told.append((abs(new.value - old.value) / max(abs(old.value), 1e-9), stem, title(parts.thing, parts.part)))
    return [stem for _, stem, _ in sorted(told, reverse=True)]
