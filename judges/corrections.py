"""Win rates that a judge's errors no longer bend: a little gold corrects many verdicts.

A judge's win rate over all pairs is biased by its errors. Two corrections, from gold cases that the judge judged too:

    Rogan-Gladen          (q + spec − 1) / (sens + spec − 1)                      Rogan and Gladen 1978
                          q: the judge's rate; sens, spec: its rates of being right on gold wins and losses. Assumes
                          that it errs alike on gold and elsewhere, whatever the win rate there.
    prediction-powered    mean y + λ (mean f − mean f on gold)                    Angelopoulos et al. 2023 (PPI++,
                          y: gold, f: the judge's value (a win or a probability). arXiv 2311.01453, section 6)
                          Unbiased for any judge when gold is a random part of the same prompts; the better the judge,
                          the narrower. λ is fitted; 0 ignores the judge, so it does no harm.

Intervals resample prompts, gold's and the others' together, with λ, sens and spec fitted anew in each resample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ratify.intervals import STANDARD, Estimate, EvidenceError, Floats, Resampling, estimate


class Judged(NamedTuple):
    """Pairs that only the judge saw."""

    values: ArrayLike
    """1 for a win, 0 for a loss, or the probability of a win."""
    prompts: Sequence[str]


class Gold(NamedTuple):
    """Pairs that both the judge and gold decided."""

    values: ArrayLike
    """What the judge said of them, as in `Judged`."""
    truth: ArrayLike
    """1 for a win, 0 for a loss."""
    prompts: Sequence[str]


def rogan_gladen(judged: Judged, gold: Gold, how: Resampling = STANDARD) -> Estimate:
    """The win rate behind a judge's wins and losses, kept within [0, 1].

    Raises:
        EvidenceError: gold lacks wins or losses, the judge is no better than chance on it, or a value is neither.
    """
    f, f_gold, y = _floats(judged.values), _floats(gold.values), _floats(gold.truth)
    if not np.isin(np.concatenate([f, f_gold, y]), (0.0, 1.0)).all():
        raise EvidenceError("Rogan-Gladen needs wins (1) and losses (0); use the prediction-powered win rate")
    if _sensitivity_and_specificity(f_gold, y) <= 1.0:
        raise EvidenceError("Rogan-Gladen: on gold this judge is no better than chance, so its wins say nothing")

    def corrected(sums: Floats) -> Floats:
        rate, sensitivity, specificity = (sums[..., place] / sums[..., place + 1] for place in (0, 2, 4))
        gain = sensitivity + specificity - 1
        found = np.clip((rate + specificity - 1) / gain, 0.0, 1.0)
        return np.asarray(np.where(gain > 0, found, np.nan))

    columns = _side_by_side([f, np.ones(len(f))], [f_gold * y, y, (1 - f_gold) * (1 - y), 1 - y])
    return estimate(columns, [*judged.prompts, *gold.prompts], corrected, how)


def prediction_powered(judged: Judged, gold: Gold, how: Resampling = STANDARD) -> Estimate:
    """The win rate by gold, sharpened by what the judge says of all pairs.

    Raises:
        EvidenceError: there is no gold, or nothing else was judged.
    """
    f, f_gold, y = _floats(judged.values), _floats(gold.values), _floats(gold.truth)
    if not len(f) or not len(y):
        raise EvidenceError("a prediction-powered win rate needs gold, and pairs beyond gold")
    columns = _side_by_side([f, f * f, np.ones(len(f))], [f_gold, f_gold**2, y, f_gold * y, np.ones(len(y))])
    return estimate(columns, [*judged.prompts, *gold.prompts], _powered, how)


def _powered(sums: Floats) -> Floats:
    """Mean y + λ (mean f − mean f on gold), with λ = cov(f, y) / ((1 + n/N) var f), held within [0, 1]."""
    f, squares, others, f_gold, squares_gold, y, products, n = np.moveaxis(sums, -1, 0)
    mean_y, mean_gold = y / n, f_gold / n
    mean_all = (f + f_gold) / (others + n)
    variance = (squares + squares_gold) / (others + n) - mean_all**2
    covariance = products / n - mean_gold * mean_y
    tuned = np.where(variance > 0, covariance / np.where(variance > 0, (1 + n / others) * variance, 1.0), 0.0)
    return np.asarray(mean_y + np.clip(tuned, 0.0, 1.0) * (f / others - mean_gold))


def _sensitivity_and_specificity(judged: Floats, truth: Floats) -> float:
    wins, losses = truth > 0.5, truth < 0.5
    if not wins.any() or not losses.any():
        raise EvidenceError("Rogan-Gladen needs gold wins and gold losses")
    return float(judged[wins].mean() + 1 - judged[losses].mean())


def _side_by_side(first: Sequence[Floats], second: Sequence[Floats]) -> list[Floats]:
    """Columns over both kinds of pairs; each is zero for the other kind."""
    blank_first, blank_second = np.zeros(len(first[0])), np.zeros(len(second[0]))
    return [np.concatenate([column, blank_second]) for column in first] + [
        np.concatenate([blank_first, column]) for column in second
    ]


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
