"""The win rate that is left when both replies are as long: does the judge prefer the new policy, or longer replies?

A logistic regression of the outcome on the difference of lengths, after Dubois et al. 2024 (arXiv 2404.04475), whose
terms for prompts and for other models are left out because every pair here has the same two policies:

    logit P(new preferred) = a + b * tanh((words of new - words of old) / their standard deviation)

The controlled rate is sigmoid(a). A tie counts one half. A weak normal prior with standard deviation `PRIOR` on both
coefficients keeps them finite where one policy always wins; it draws the rate towards one half. The interval comes
from the sandwich covariance over prompts (Liang and Zeger 1986), on the logit scale. Where the new replies are always
longer, little tells the two apart, and the interval is wide, as it should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling
from evaluation.win_rate import CREDIT, outcome_for
from ratify.types import Completion, Label

Floats = NDArray[np.float64]
PRIOR = 3.0
"""Standard deviation of the prior, in log-odds."""
STEPS = 50
TOLERANCE = 1e-10


def length_controlled_win_rate(
    labels: Sequence[Label], new: Set[str], words: Mapping[str, int], how: Resampling = STANDARD
) -> Estimate:
    """Win rate of the new policy at equal length.

    Args:
        labels: one per pair of a new and an old reply to the same prompt.
        new: ids of the new policy's completions.
        words: completion id → words of the reply, of both policies.
        how: its confidence; the clusters are prompts and nothing is resampled.

    Raises:
        EvidenceError: when no pair was decided or there are fewer than three prompts.
    """
    rows = [(label, outcome_for(label, new)) for label in labels]
    decided = [(label, CREDIT[outcome]) for label, outcome in rows if outcome in CREDIT]
    prompts = list(dict.fromkeys(label.prompt_id for label, _ in decided))
    if len(prompts) < 3:
        raise EvidenceError(f"length-controlled win rate: {len(prompts)} prompts with a readable verdict, 3 are needed")
    gaps = np.array([_gap(label, new, words) for label, _ in decided], dtype=np.float64)
    spread = float(np.std(gaps)) or float(np.abs(gaps).max()) or 1.0
    design = np.stack([np.ones(len(gaps)), np.tanh(gaps / spread)], axis=1)
    outcomes = np.array([credit for _, credit in decided])
    numbers = {prompt: number for number, prompt in enumerate(prompts)}
    owners = np.array([numbers[label.prompt_id] for label, _ in decided])
    centre, error = fit(design, outcomes, owners)
    reach = float(stdtrit(len(prompts) - 1, (1 + how.confidence) / 2)) * error
    value, low, high = (float(expit(centre + move)) for move in (0.0, -reach, reach))
    return Estimate(
        value=value, low=low, high=high, n=len(decided), clusters=len(prompts), confidence=how.confidence
    )  # fmt: skip


def fit(design: Floats, outcomes: Floats, owners: NDArray[np.int64]) -> tuple[float, float]:
    """The intercept and its standard error, by Newton's method.

    Args:
        design: (pairs, 2), the first column ones.
        outcomes: (pairs,), 0 to 1.
        owners: (pairs,), number of each pair's prompt.
    """
    penalty = np.eye(design.shape[1]) / PRIOR**2
    weights = np.zeros(design.shape[1])
    for _ in range(STEPS):
        shares = expit(design @ weights)
        curvature = (design * (shares * (1 - shares))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, design.T @ (outcomes - shares) - penalty @ weights)
        weights = weights + step
        if float(np.abs(step).max()) < TOLERANCE:
            break
    shares = expit(design @ weights)
    inverse = np.linalg.inv((design * (shares * (1 - shares))[:, None]).T @ design + penalty)
    scores = np.zeros((int(owners.max()) + 1, design.shape[1]))
    np.add.at(scores, owners, design * (outcomes - shares)[:, None])
    sandwich = inverse @ (scores.T @ scores) @ inverse * len(scores) / max(1, len(scores) - 1)
    return float(weights[0]), float(np.sqrt(sandwich[0, 0]))


def _gap(label: Label, new: Set[str], words: Mapping[str, int]) -> float:
    sign = 1 if label.a_id in new else -1
    return sign * (words[label.a_id] - words[label.b_id])


def reply_words(replies: Sequence[Completion]) -> dict[str, int]:
    """Completion id → words by white space."""
    return {reply.id: len(reply.text.split()) for reply in replies}
