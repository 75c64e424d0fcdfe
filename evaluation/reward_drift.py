"""Does the reward model still hold what it promised, on fresh pairs of the newest policy?

The promise is the lower 80 % bound of its accuracy on held-out pairs of its own training data. An e-process over the
prompts of the newest evaluation, in their order, holds fresh accuracy against it: at 1/α a fall is shown, and that is
wrong with probability α however often one looks (Ville). Beside it stands the calibration error of its probabilities,
which is an alarm only above a floor and above what chance makes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from evaluation.drift_record import Reading, missing
from evaluation.e_cusum import detectable_drop, false_alarms, watch
from evaluation.intervals import Estimate, EvidenceError, Resampling, mean
from evaluation.reward_quality import FreshPair, calibration_by_chance, expected_calibration_error

PROMISE = 0.8
"""Confidence of the lower bound that fresh accuracy is held against."""
ECE_FLOOR = 0.10
"""Calibration error worth an alarm, beyond what chance makes."""


def promised_accuracy(validation: Estimate) -> float:
    """The one-sided lower bound of Clopper and Pearson (1934) on its held-out pairs."""
    hits = round(validation.value * validation.n)
    return float(betaincinv(hits, validation.n - hits + 1, 1 - PROMISE)) if hits else 0.0


def reward_readings(
    pairs: Sequence[FreshPair], validation: Estimate | None, how: Resampling, alpha: float = 0.05
) -> list[Reading]:
    """Accuracy and calibration of one round's fresh pairs."""
    if not pairs:
        return [missing("reward_model", "accuracy", "no freshly judged pair has both rewards")]
    return [_accuracy(pairs, validation, how, alpha), _calibration(pairs, how)]


def _accuracy(pairs: Sequence[FreshPair], validation: Estimate | None, how: Resampling, alpha: float) -> Reading:
    credit = [0.5 if pair.gap == 0 else float((pair.gap > 0) == pair.a_wins) for pair in pairs]
    found = mean(credit, [pair.prompt_id for pair in pairs], how, share=True)
    if validation is None or validation.n < 2:
        why = f"its accuracy on fresh pairs is {found.value:.1%}, but nothing was promised: it has no validation pairs"
        return missing("reward_model", "accuracy", why)
    least, by_prompt = promised_accuracy(validation), _by_prompt(pairs, credit)
    watched = watch(by_prompt, least, 1 / alpha, forgetful=False)
    text = (
        f"Agrees with the judge on {found.value:.1%} of {found.n} fresh pairs of {len(by_prompt)} prompts; its "
        f"validation had {validation.value:.1%} of {validation.n}, so it is held to {least:.1%}: e-process "
        f"{watched.evidence:.3g}, {watched.highest:.3g} at most, alarm at {1 / alpha:g}."
    )
    size, rounded = len(by_prompt), round(least, 3)
    return Reading(
        part="reward_model", name="accuracy", state="drift" if watched.alarm_at else "steady", text=text,
        value=found.value, low=found.low, high=found.high, n=found.n, limit=1 / alpha,
        false_alarms=false_alarms(rounded, 1 / alpha, size, forgetful=False),
        false_alarms_from=f"400 simulated rounds of {size} prompts at the promised accuracy",
        detectable=detectable_drop(rounded, 1 / alpha, size, forgetful=False),
    )  # fmt: skip


def _calibration(pairs: Sequence[FreshPair], how: Resampling) -> Reading:
    try:
        found = expected_calibration_error(pairs, how)
    except EvidenceError as error:
        return missing("reward_model", "calibration", str(error))
    chance = calibration_by_chance(pairs)
    limit = chance + ECE_FLOOR
    drifted = found.low is not None and found.low > limit
    text = (
        f"Calibration error of its probabilities {found.value:.3f} on {found.n} fresh pairs; chance alone makes "
        f"{chance:.3f}, worth an alarm is a lower bound above {limit:.3f}."
    )
    return Reading(
        part="reward_model", name="calibration", state="drift" if drifted else "steady", text=text, value=found.value,
        low=found.low, high=found.high, n=found.n, limit=limit, false_alarms=(1 - found.confidence) / 2,
        false_alarms_from="lower end of the interval over prompts, nominal, before the floor",
        detectable=limit,
    )  # fmt: skip


def _by_prompt(pairs: Sequence[FreshPair], credit: Sequence[float]) -> list[float]:
    """Mean credit of each prompt, in order of first appearance: one fresh value in [0, 1] each."""
    rows: dict[str, list[float]] = {}
    for pair, value in zip(pairs, credit, strict=True):
        rows.setdefault(pair.prompt_id, []).append(value)
    return [float(np.mean(values)) for values in rows.values()]
