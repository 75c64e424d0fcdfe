"""What the gate is given beside a report, and what it says: `Standing` in, `GateVerdict` out, written as gate.json."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from evaluation.intervals import Estimate
from evaluation.report import EvaluationReport
from ratify.canonical import digest
from ratify.errors import StoreError
from ratify.files import write_text
from ratify.types import Record

Decision = Literal["PROMOTE", "HOLD", "REJECT", "INSUFFICIENT"]
Status = Literal["met", "unsure", "violated", "missing"]
Check = Literal["validity", "superiority", "non-inferiority", "budget", "reward hacking"]
DECISIONS: dict[Status, Decision] = {
    "met": "PROMOTE",
    "unsure": "HOLD",
    "violated": "REJECT",
    "missing": "INSUFFICIENT",
}
"""The verdict that the worst reason leads to."""
MEANINGS: dict[Decision, str] = {
    "PROMOTE": "everything that promotion needs is shown",
    "HOLD": "nothing is shown to be worse, and not everything is shown to be good enough",
    "REJECT": "a loss is shown",
    "INSUFFICIENT": "the evidence cannot carry a decision",
}


class Standing(Record):
    """What a run's history says to the gate."""

    attempt: int = Field(default=1, ge=1)
    """How many different evaluations, this one included, were put to the gate against the same parent."""
    parent: str = ""
    """The report's name of the parent, when one was promoted before; empty for the run's first policy."""
    judge: str = ""
    """Fingerprint of the judge with which the epoch began; empty when none has begun."""
    constitution: str = ""
    """Hash of the constitution with which it began."""
    first: dict[str, Estimate] | None = None
    """Stage and thing (`evaluate/distinct_2`) → the frozen first policy's figure; None while it is the parent."""


class Reason(Record):
    """One thing that was looked at."""

    check: Check
    status: Status
    metric: str
    """Metric key."""
    text: str
    """A sentence with the value, its bound and the limit."""
    value: float | None = None
    bound: float | None = None
    """The end of the one-sided interval that was held against the limit."""
    limit: float | None = None


class GateVerdict(Record):
    """May the new policy replace its parent?"""

    format: Literal["ratify.gate/1"] = "ratify.gate/1"
    decision: Decision
    reasons: tuple[Reason, ...]
    """What decided first; then everything else that was looked at."""
    standing: Standing
    alpha: float
    """Level of this attempt, after what earlier ones have spent."""
    evidence: str
    """Hash of the figures that the verdict rests on."""

    @property
    def deciding(self) -> tuple[Reason, ...]:
        """The reasons that stand against promotion; none for PROMOTE."""
        return tuple(reason for reason in self.reasons if reason.status != "met")


def evidence_hash(report: EvaluationReport) -> str:
    """Hash of a report's figures and of what they were measured on; the time of the evaluation is no part of it."""
    return digest(
        {
            "metrics": {key: found.model_dump() for key, found in report.metrics.items()},
            "counts": report.counts,
            "models": report.identity.models,
            "judge": report.identity.judge,
            "constitution": report.constitution.hash if report.constitution else "",
        }
    )


def write_gate(path: Path, verdict: GateVerdict) -> None:
    """Write gate.json whole or not at all."""
    write_text(path, verdict.model_dump_json(indent=2) + "\n")


def read_gate(path: Path) -> GateVerdict | None:
    """The gate's verdict beside a report; None where there is none.

    Raises:
        StoreError: the file is of another version.
    """
    if not path.exists():
        return None
    try:
        return GateVerdict.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a gate's verdict of this version; run `ratify gate` on the run") from error
