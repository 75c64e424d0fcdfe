"""How good the judge of a labelling is, as plain figures for the report: gold agreement, biases, calibration.

The label stage measures them and writes them as `judge.json`; here is only their form.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ratify.errors import StoreError
from ratify.intervals import Estimate
from ratify.types import Record


class BiasRow(Record):
    """One principle's biases; a figure that is not defined is None."""

    principle: str
    pairs: int
    same_position: Estimate | None = None
    """Pairwise: share of pairs in which the same position wins in both orders."""
    order_gap: Estimate | None = None
    """Pairwise: favour for the reply shown first, in log-odds."""
    length: Estimate | None = None
    """Log-odds per unit of ln(words of a / words of b)."""
    format: Estimate | None = None
    """Log-odds per markdown mark and word."""
    family: Estimate | None = None
    """Log-odds for a reply of the judge's own family."""


class ReliabilityPoint(Record):
    """One point of a reliability diagram."""

    count: int
    predicted: float
    observed: float


class ReliabilityRow(Record):
    """How far probabilities can be taken at their word."""

    nll: float
    brier: float
    ece: float
    points: tuple[ReliabilityPoint, ...]


class CalibrationRow(Record):
    """One calibrator and what it is worth on gold it did not see."""

    name: str
    """The principle, or `all other principles`."""
    method: str
    temperature: float | None = None
    gold: int
    before: ReliabilityRow
    after: ReliabilityRow


class PanelSeat(Record):
    """One judge of a panel."""

    name: str
    weight: float
    judge: str
    """Fingerprint."""
    asked: int
    """Views (a principle on a pair) that it was asked about."""
    failed: int
    """Verdicts that it did not give."""
    saved: int
    """Questions that it was not asked because the others had settled them."""
    agreement: Estimate | None = None
    """With gold."""


class PanelRow(Record):
    """How far the judges of a panel agree by one principle."""

    principle: str
    views: int
    complete: int
    """Views with a vote of every judge."""
    among: dict[str, Estimate]
    """By statistic."""
    kappa: dict[str, Estimate]
    """Cohen's kappa by two judges' names."""


class PanelQuality(Record):
    """The judges of a panel and their agreement with each other."""

    combine: str
    seats: tuple[PanelSeat, ...]
    rows: tuple[PanelRow, ...]


def _alone(panel: object) -> bool:
    return panel is None


class JudgeQuality(Record):
    """Everything that a labelling found out about its judge."""

    judge: str
    """Fingerprint."""
    protocol: str
    canaries: int = 0
    """Gold pairs that were judged with the others."""
    canaries_failed: int = 0
    agreement: Estimate | None = None
    """With gold, on the pairs that gold decides."""
    of_ceiling: Estimate | None = None
    """The same as a share of how often people agree with gold."""
    by_principle: dict[str, Estimate] = Field(default_factory=dict)
    biases: tuple[BiasRow, ...] = ()
    calibrator: str = ""
    """Hash of the calibrators that the labels were made with; empty without."""
    calibration: tuple[CalibrationRow, ...] = ()
    panel: PanelQuality | None = Field(default=None, exclude_if=_alone)
    """When several judges labelled: then the figures above are of them together, or bear a judge's name."""


def read_judge_quality(path: Path) -> JudgeQuality | None:
    """What a stage wrote about its judge; None when it wrote nothing.

    Raises:
        StoreError: the file is of another version.
    """
    if not path.exists():
        return None
    try:
        return JudgeQuality.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not of this version; run its stage again") from error
