"""Calibrators for a labelling, fitted on the gold pairs that were judged with it: one per principle, or one for all.

A label leans by its principles' leads, so that is what is fitted: the lead of a pair and whether a is better. A
temperature divides, and dividing both verdicts of a pair divides their lead, so it is applied to verdicts as they are,
before the clamp. Isotonic calibration bends, so it is fitted on pairwise verdicts themselves, both orders of a pair.

A principle that gold decides often enough has its own calibrator. All others share one, fitted on the whole margin and
overall gold; with isotonic calibration there is none to share. An edited principle is another one: a calibrator is
known by what judges read of it, and the edited principle falls back on the shared one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from constitutions.hashes import principle_hash
from constitutions.schema import Constitution, Principle
from judges.bias import TwoOrders, two_orders
from judges.calibration import MIN_GOLD, MIN_ISOTONIC, Calibrator, Method, calibrate_verdicts, fit_calibrator
from judges.gold import OVERALL, Gold
from judges.labels import compute_labels
from judges.questions import Questionnaire
from ratify.canonical import digest
from ratify.errors import InputError
from ratify.files import write_text
from ratify.intervals import EvidenceError, Floats
from ratify.types import Protocol, Record, Verdict


class CalibratorSet(Record):
    """The artefact of a labelling."""

    judge: str
    """Fingerprint of the judge."""
    method: Method
    by_principle: dict[str, Calibrator]
    """By the hash of what a judge reads of a principle."""
    shared: Calibrator | None
    """For principles without their own."""
    hash: str = ""
    """SHA-256 of all the rest."""

    def of(self, principle: Principle) -> Calibrator | None:
        """The calibrator of a principle; None leaves its verdicts as they are."""
        return self.by_principle.get(principle_hash(principle), self.shared)

    @property
    def fitted(self) -> list[Calibrator]:
        """All of them."""
        return [*self.by_principle.values(), *([self.shared] if self.shared else [])]


def fit_on_gold(
    gold: Gold,
    sheet: Questionnaire,
    verdicts: Mapping[str, Verdict],
    constitution: Constitution,
    *,
    judge: str,
    protocol: Protocol,
    method: Method,
) -> CalibratorSet:
    """Fit every calibrator that gold suffices for.

    Args:
        gold: The pairs with their winners, in the order of the sheet's pairs.
        sheet: The gold pairs' questions.
        verdicts: By key.
        constitution: Its active principles were asked.
        judge: Its fingerprint.
        protocol: How it was asked.
        method: `isotonic` needs a pairwise judge.

    Raises:
        EvidenceError: gold suffices for none.
    """
    own = {}
    for principle in constitution.active:
        found = _fit(principle, gold, sheet, verdicts, constitution, judge=judge, method=method)
        if found is not None:
            own[principle_hash(principle)] = found
    shared = None
    if method == "temperature":
        shared = _fit_shared(gold, sheet, verdicts, constitution, judge=judge, protocol=protocol)
    if not own and shared is None:
        least = MIN_GOLD if method == "temperature" else MIN_ISOTONIC
        raise EvidenceError(
            f"gold.calibrate = {method!r}: no principle has {least} gold pairs that gold decides and the judge "
            "answered; give more gold, or set gold.calibrate = 'none'"
        )
    made = CalibratorSet(judge=judge, method=method, by_principle=own, shared=shared)
    return made.model_copy(update={"hash": _hash(made)})


def calibrated(
    verdicts: Mapping[str, Verdict], calibrators: CalibratorSet, constitution: Constitution
) -> dict[str, Verdict]:
    """The verdicts with calibrated log-odds, by key."""
    by_id = {principle.id: found for principle in constitution.active if (found := calibrators.of(principle))}
    return dict(zip(verdicts, calibrate_verdicts(verdicts.values(), by_id), strict=True))


def write_calibrators(path: Path, calibrators: CalibratorSet) -> None:
    """Write the artefact as JSON, whole or not at all."""
    write_text(path, json.dumps(calibrators.model_dump(mode="json"), indent=2) + "\n")


def read_calibrators(path: Path) -> CalibratorSet:
    """Read an artefact back.

    Raises:
        InputError: it cannot be read, or it was changed since it was written.
    """
    try:
        found = CalibratorSet.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} holds no calibrators: {str(error).splitlines()[0]}") from error
    if found.hash != _hash(found):
        raise InputError(f"{path} was changed after it was fitted; label again")
    return found


def _fit(
    principle: Principle,
    gold: Gold,
    sheet: Questionnaire,
    verdicts: Mapping[str, Verdict],
    constitution: Constitution,
    *,
    judge: str,
    method: Method,
) -> Calibrator | None:
    """The principle's own; gold about the whole is gold about the only principle that decides."""
    alone = [each.id for each in constitution.active if each.decides] == [principle.id]
    truth = gold.better(principle.id) or (gold.better(OVERALL) if alone else {})
    quality = {ids: 1.0 if winner == "a" else -1.0 for ids, winner in truth.items()}
    judged = two_orders(sheet, verdicts, quality=quality).get(principle.id, [])
    if len(judged) < (MIN_GOLD if method == "temperature" else MIN_ISOTONIC):
        return None
    cases = _leads(judged) if method == "temperature" else _both_orders(judged)
    log_odds, better, prompts = cases
    return fit_calibrator(
        log_odds, better, prompts, judge=judge, principle=principle.id, method=method,
        target="pair" if method == "temperature" else "verdict",
    )  # fmt: skip


Cases = tuple[Sequence[float], Sequence[float], Sequence[str]]
"""Log-odds, what was true (1 or 0), and the prompts."""


def _leads(judged: Sequence[TwoOrders]) -> Cases:
    leads = [(pair.a_first - pair.b_first) / 2 for pair in judged]
    return leads, [float(pair.quality > 0) for pair in judged], [pair.prompt_id for pair in judged]


def _both_orders(judged: Sequence[TwoOrders]) -> Cases:
    z = [score for pair in judged for score in (pair.a_first, pair.b_first)]
    first_won = [float(won) for pair in judged for won in (pair.quality > 0, pair.quality < 0)]
    return z, first_won, [pair.prompt_id for pair in judged for _ in (0, 1)]


def _fit_shared(
    gold: Gold,
    sheet: Questionnaire,
    verdicts: Mapping[str, Verdict],
    constitution: Constitution,
    *,
    judge: str,
    protocol: Protocol,
) -> Calibrator | None:
    """On the margin without a clamp, which would hide how sure the judge was."""
    open_ended = constitution.model_copy(
        update={"aggregate": constitution.aggregate.model_copy(update={"clamp": None})}
    )
    labels = compute_labels(sheet, verdicts, {}, open_ended, protocol)
    better = gold.better(OVERALL)
    known = [label for label in labels if label.margin is not None and (label.a_id, label.b_id) in better]
    if len(known) < MIN_GOLD:
        return None
    margins: list[float] = [label.margin or 0.0 for label in known]
    won = [float(better[label.a_id, label.b_id] == "a") for label in known]
    return fit_calibrator(margins, won, [label.prompt_id for label in known], judge=judge, target="pair")


def apply_to_column(z: Floats, principle: Principle, calibrators: CalibratorSet | None) -> Floats:
    """Calibrated log-odds of one principle's verdicts, of any shape; NaN stays."""
    found = calibrators.of(principle) if calibrators else None
    return z if found is None else found.calibration.apply(z)


def _hash(calibrators: CalibratorSet) -> str:
    return digest(calibrators.model_dump(mode="json", exclude={"hash"}))
