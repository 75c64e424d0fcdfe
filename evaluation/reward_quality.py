"""How far rewards can be trusted on freshly judged pairs: calibration, the gap to gold, and the pull of length.

Accuracy is in `agreement.py`. Everything is a function of sums over prompts, so all intervals resample prompts. What is
left out: over-optimisation curves, which need several policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from evaluation.agreement import Pair
from evaluation.intervals import STANDARD, Estimate, EvidenceError, Floats, Resampling, estimate, mean
from ratify.types import Completion, Label

BINS = 10
LEAST = 30
"""Decided pairs, or replies, that a figure needs."""


class FreshPair(NamedTuple):
    """One decided pair whose replies both have a reward."""

    prompt_id: str
    gap: float
    """Reward of a minus reward of b."""
    a_wins: bool
    """By the judge."""


class ProxyGold(NamedTuple):
    """How often each prefers the new policy, on the same pairs."""

    proxy: Estimate
    gold: Estimate
    gap: Estimate
    """Proxy minus gold: above zero the new policy pleases the proxy more than it is better."""


def fresh_pairs(labels: Sequence[Label], rewards: Mapping[str, float]) -> list[FreshPair]:
    """The pairs that the judge decided and the reward model scored, in the labels' order."""
    return [
        FreshPair(label.prompt_id, rewards[label.a_id] - rewards[label.b_id], label.outcome == "a")
        for label in labels
        if label.outcome in ("a", "b") and label.a_id in rewards and label.b_id in rewards
    ]


def expected_calibration_error(pairs: Sequence[FreshPair], how: Resampling = STANDARD) -> Estimate:
    """ECE of P(a wins) = σ(r_a − r_b), the Bradley-Terry model that the reward was trained by; bins of equal mass.

    Each pair is seen from both sides, so that the order in which replies are named cannot move the figure. It is never
    below what chance makes of a calibrated model: compare it with `calibration_by_chance`.

    Raises:
        EvidenceError: too few pairs.
    """
    _enough(len(pairs), "decided pairs with both rewards")
    predicted, won, bins = _binned(pairs)
    columns = [np.where(bins == number, predicted - won, 0.0) for number in range(BINS)]
    prompts = [pair.prompt_id for pair in pairs]
    return estimate([*columns, np.ones(len(pairs))], prompts, _absolute_share, how)


def calibration_by_chance(pairs: Sequence[FreshPair], draws: int = 200) -> float:
    """The mean ECE of a model that is perfectly calibrated on as many pairs with these probabilities."""
    predicted, _, bins = _binned(pairs)
    won = np.random.default_rng(0).random((draws, len(pairs))) < predicted
    gaps = np.stack([np.where(bins == number, predicted - won, 0.0).sum(axis=1) for number in range(BINS)])
    return float(np.abs(gaps).sum(axis=0).mean() / len(pairs))


def proxy_gold(
    credit: Mapping[Pair, float], gold: Mapping[Pair, float], prompts: Mapping[Pair, str], how: Resampling = STANDARD
) -> ProxyGold:
    """Both win rates of the new policy (0, ½ or 1 a pair) and their difference, on the pairs that both know.

    Raises:
        EvidenceError: too few such pairs.
    """
    both = [pair for pair in credit if pair in gold]
    _enough(len(both), "pairs that proxy and gold both know")
    ours, theirs = (np.array([side[pair] for pair in both]) for side in (credit, gold))
    clusters = [prompts[pair] for pair in both]
    return ProxyGold(
        mean(ours, clusters, how, share=True),
        mean(theirs, clusters, how, share=True),
        mean(ours - theirs, clusters, how),
    )


def length_correlation(
    replies: Sequence[Completion],
    rewards: Mapping[str, float],
    quality: Mapping[str, float],
    how: Resampling = STANDARD,
) -> Estimate:
    """Correlation of reward and ln(words) within prompts, with `quality` of the replies held fixed where it is known.

    All three are centred within each prompt, which is a regression on one dummy a prompt; then, with r the plain
    correlations, (r_rl − r_rq r_lq) / √((1 − r_rq²)(1 − r_lq²)). With no quality, or one that never varies, r_rl.

    Raises:
        EvidenceError: too few replies to prompts with two or more, or rewards or lengths that never vary.
    """
    known = [reply for reply in replies if reply.id in rewards and reply.text.split()]
    prompts = [reply.prompt_id for reply in known]
    columns = [
        np.array([rewards[reply.id] for reply in known]),
        np.log([len(reply.text.split()) for reply in known]) if known else np.zeros(0),
        np.array([quality.get(reply.id, 0.0) for reply in known]),
    ]
    _, numbers, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    _enough(int((counts[numbers] > 1).sum()) if known else 0, "rewarded replies to prompts with several")
    reward, length, worth = (column - (np.bincount(numbers, column) / counts)[numbers] for column in columns)
    sums = [reward * length, reward * worth, length * worth, reward**2, length**2, worth**2]
    return estimate(sums, prompts, _partial_correlation, how)


def _binned(pairs: Sequence[FreshPair]) -> tuple[Floats, Floats, np.ndarray]:
    """Probability of the reply with the higher reward, whether it won, and its bin."""
    gaps = np.array([pair.gap for pair in pairs])
    won = np.array([pair.a_wins for pair in pairs], dtype=np.float64)
    won = np.where(gaps >= 0, won, 1 - won)
    predicted = np.asarray(expit(np.abs(gaps)))
    won = np.where(gaps == 0, 0.5, won)
    edges = np.quantile(predicted, np.arange(1, BINS) / BINS)
    return predicted, won, np.searchsorted(edges, predicted, side="left")


def _absolute_share(sums: Floats) -> Floats:
    return np.asarray(np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1])


def _partial_correlation(sums: Floats) -> Floats:
    rl, rq, lq, rr, ll, qq = (sums[..., column] for column in range(6))
    with_quality = qq > 1e-12
    known = np.where(with_quality, qq, 1.0)
    a = np.where(with_quality, rq / np.sqrt(rr * known), 0.0)
    b = np.where(with_quality, lq / np.sqrt(ll * known), 0.0)
    return np.asarray((rl / np.sqrt(rr * ll) - a * b) / np.sqrt((1 - a**2) * (1 - b**2)))


def _enough(found: int, what: str) -> None:
    if found < LEAST:
        raise EvidenceError(f"reward: {found} {what}, {LEAST} are needed")
