"""Calibration: what a judge's log-odds are worth, learnt from gold and kept as an artefact.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599, section 4.2) divides log-odds by one number T > 0. It is the
default: one parameter, and σ(z/T) + σ(−z/T) = 1, so swapping the replies still swaps the probability. With at least
`MIN_ISOTONIC` gold cases isotonic regression (Zadrozny and Elkan 2002) may take its place; it is fitted on every case
and its mirror image, (z, y) and (−z, 1 − y), so it is antisymmetric too.

A calibrator is fitted on all gold, but what it is worth is measured cross-fitted: each prompt's cases are scaled by a
calibrator fitted on the other folds. Both are in the artefact, a JSON file with its own hash, which a label names so
that it can be traced. The same functions serve a pointwise verdict (gold: does the reply meet the principle?) and the
lead or the margin of a pair (gold: is a better?); a calibrator says which it was fitted for. Clamp afterwards.

Left out: bias terms (a favour for "yes" is the principle's wording; fix that), and calibration by prompt tag.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, ValidationError
from scipy.optimize import isotonic_regression, minimize_scalar

from judges.reliability import Reliability, measure_reliability, probabilities_of
from ratify.canonical import digest
from ratify.errors import InputError
from ratify.files import write_text
from ratify.intervals import EvidenceError, Floats
from ratify.types import Record, Verdict

Method = Literal["temperature", "isotonic"]
Target = Literal["verdict", "pair"]

MIN_GOLD = 20
"""Fewer gold cases fit no calibrator."""
MIN_ISOTONIC = 500
"""Fewer gold cases fit no isotonic calibrator."""
FOLDS = 5
TEMPERATURES = (0.05, 20.0)
"""A judge that is wrong every time would have an infinite temperature."""


class Calibration(Record):
    """A map from log-odds to log-odds."""

    method: Method
    temperature: float = Field(default=1.0, gt=0)
    knots: tuple[float, ...] = ()
    """Isotonic: log-odds in ascending order, symmetric about 0."""
    values: tuple[float, ...] = ()
    """Isotonic: calibrated log-odds at the knots; straight lines between, constant beyond."""

    def apply(self, log_odds: ArrayLike) -> Floats:
        """Calibrated log-odds; `apply(-z) == -apply(z)`."""
        z = np.asarray(log_odds, dtype=np.float64)
        if self.method == "temperature":
            return z / self.temperature
        return np.asarray(np.interp(z, self.knots, self.values), dtype=np.float64)


class Calibrator(Record):
    """The artefact: a calibration, what it was fitted on, and what it is worth on gold it did not see."""

    judge: str
    """Fingerprint of the judge it belongs to; another judge needs another one."""
    principle: str | None
    """None: for the margin over all principles."""
    target: Target
    gold: int
    folds: int
    calibration: Calibration
    before: Reliability
    """Of the judge's own probabilities."""
    after: Reliability
    """Of the cross-fitted ones."""
    hash: str = ""
    """SHA-256 of all the rest."""


def fit_calibration(log_odds: ArrayLike, gold: ArrayLike, method: Method = "temperature") -> Calibration:
    """Fit on log-odds and what was true (1 or 0).

    Raises:
        EvidenceError: too few cases for the method.
    """
    z, y = np.asarray(log_odds, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    least = MIN_GOLD if method == "temperature" else MIN_ISOTONIC
    if len(z) < least:
        raise EvidenceError(f"{method} calibration needs at least {least} gold cases; there are {len(z)}")
    return _temperature(z, y) if method == "temperature" else _isotonic(z, y)


def fit_calibrator(
    log_odds: ArrayLike,
    gold: ArrayLike,
    prompts: Sequence[str],
    *,
    judge: str,
    principle: str | None = None,
    target: Target = "verdict",
    method: Method = "temperature",
) -> Calibrator:
    """Fit on all gold and measure on gold left out, prompt by prompt.

    Raises:
        EvidenceError: too few cases for the method.
    """
    z, y = np.asarray(log_odds, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    made = Calibrator(
        judge=judge,
        principle=principle,
        target=target,
        gold=len(z),
        folds=FOLDS,
        calibration=fit_calibration(z, y, method),
        before=measure_reliability(probabilities_of(z), y),
        after=measure_reliability(probabilities_of(cross_fit(z, y, prompts, method)), y),
    )
    return made.model_copy(update={"hash": _hash(made)})


def cross_fit(log_odds: Floats, gold: Floats, prompts: Sequence[str], method: Method = "temperature") -> Floats:
    """Log-odds of each case, calibrated by the cases of other folds of prompts."""
    fold = np.array([_fold(prompt) for prompt in prompts])
    calibrated = np.empty(len(log_odds))
    for number in np.unique(fold):
        out = fold == number
        if out.all():
            raise EvidenceError("calibration: the gold cases of at least two prompts are needed")
        fit = _temperature if method == "temperature" else _isotonic
        calibrated[out] = fit(log_odds[~out], gold[~out]).apply(log_odds[out])
    return calibrated


def calibrate_verdicts(verdicts: Iterable[Verdict], calibrators: Mapping[str, Calibrator]) -> list[Verdict]:
    """Verdicts with calibrated log-odds, by principle; those without a calibrator stay as they are.

    Raises:
        InputError: a calibrator belongs to another judge or another target.
    """
    found = []
    for verdict in verdicts:
        calibrator = calibrators.get(verdict.principle)
        if calibrator is not None and verdict.logit is not None:
            _check_fits(calibrator, verdict)
            logit = float(calibrator.calibration.apply(verdict.logit))
            verdict = verdict.model_copy(update={"logit": logit})  # noqa: PLW2901
        found.append(verdict)
    return found


def write_calibrator(path: Path, calibrator: Calibrator) -> None:
    """Write the artefact as JSON, whole or not at all."""
    write_text(path, json.dumps(calibrator.model_dump(mode="json"), indent=2) + "\n")


def read_calibrator(path: Path) -> Calibrator:
    """Read an artefact back.

    Raises:
        InputError: it cannot be read, or it was changed since it was written.
    """
    try:
        found = Calibrator.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} is no calibrator: {str(error).splitlines()[0]}") from error
    if found.hash != _hash(found):
        raise InputError(f"{path} was changed after it was fitted; fit it again")
    return found


def _temperature(z: Floats, y: Floats) -> Calibration:
    """Least NLL over ln T; as a function of 1/T it is convex, so there is one minimum.

    Gold is believed to 1 − 1/(n + 2) (Platt 1999, section 2.2), so that few cases, all right, make no judge certain.
    """
    signed, doubt = np.where(y > 0.5, z, -z), 1 / (len(z) + 2)

    def loss(log_temperature: float) -> float:
        scaled = signed * np.exp(-log_temperature)
        return float(np.mean(np.logaddexp(0.0, -scaled) + doubt * scaled))

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    return Calibration(method="temperature", temperature=float(np.exp(found.x)))


def _isotonic(z: Floats, y: Floats) -> Calibration:
    """Pool adjacent violators on the mirrored cases; shares are kept half a case away from 0 and 1."""
    places, inverse = np.unique(np.concatenate([z, -z]), return_inverse=True)
    wins = np.bincount(inverse, np.concatenate([y, 1 - y]))
    weights = np.bincount(inverse).astype(np.float64)
    shares = np.asarray(isotonic_regression(wins / weights, weights=weights).x)
    edge = 0.5 / (len(z) + 1)
    values = np.log(np.clip(shares, edge, 1 - edge) / np.clip(1 - shares, edge, 1 - edge))
    values = (values - values[::-1]) / 2
    bends = np.ones(len(values), dtype=bool)
    bends[1:-1] = (values[1:-1] != values[:-2]) | (values[1:-1] != values[2:])
    return Calibration(method="isotonic", knots=tuple(places[bends].tolist()), values=tuple(values[bends].tolist()))


def _fold(prompt: str) -> int:
    """By the prompt's name alone: a case stays in its fold when others are added."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") % FOLDS


def _check_fits(calibrator: Calibrator, verdict: Verdict) -> None:
    """A temperature of pairs serves their verdicts, too: it divides, and so divides their lead."""
    serves = calibrator.target == "verdict" or calibrator.calibration.method == "temperature"
    if calibrator.judge != verdict.judge or not serves:
        raise InputError(
            f"the calibrator for {calibrator.principle} was fitted on a {calibrator.target} of judge "
            f"{calibrator.judge[:12]}, not on verdicts of judge {verdict.judge[:12]}; fit one for this judge"
        )


def _hash(calibrator: Calibrator) -> str:
    return digest(calibrator.model_dump(mode="json", exclude={"hash"}))
