"""Losses of preference optimisation that say of each completion where it should go: KTO, APO, ORPO, supervised.

A loss of the margin alone is content when chosen falls, as long as rejected falls further; these are not. Soft labels
as in `preference`: q·ℓ(chosen, rejected) + (1−q)·ℓ(rejected, chosen). Left out: KTO on completions that are in no pair,
averaging and weights of rows (the caller's).

Shapes: P is the number of pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from training.losses.preference import soft_label


def kto(
    chosen_reward_P: Tensor,
    rejected_reward_P: Tensor,
    probability_P: Tensor,
    baseline: float,
    *,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimisation: λ_D·(1 − σ(r − z)) for desirable, λ_U·(1 − σ(z − r)) for undesirable completions.

    (Ethayarajh et al., arXiv 2402.01306, equation 7 without the constant.) A pair's loss is the mean of its two
    completions': chosen desirable and rejected not.

    Args:
        chosen_reward_P: `implicit_reward` of each chosen completion, (P,).
        rejected_reward_P: of each rejected one, (P,).
        probability_P: q, (P,).
        baseline: z, β times the reference point z₀ ≥ 0 that estimates KL(π‖π_ref); a number, no gradient.
        desirable_weight: λ_D.
        undesirable_weight: λ_U.
    """

    def loss(better_P: Tensor, worse_P: Tensor) -> Tensor:
        desirable_P = desirable_weight * (1 - torch.sigmoid(better_P - baseline))
        undesirable_P = undesirable_weight * (1 - torch.sigmoid(baseline - worse_P))
        return 0.5 * (desirable_P + undesirable_P)

    return soft_label(loss, chosen_reward_P, rejected_reward_P, probability_P)


def apo_zero(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor) -> Tensor:
    """(1 − σ(r_chosen)) + σ(r_rejected): chosen up, rejected down (arXiv 2408.06266, equation 7)."""

    def loss(better_P: Tensor, worse_P: Tensor) -> Tensor:
        return (1 - torch.sigmoid(better_P)) + torch.sigmoid(worse_P)

    return soft_label(loss, chosen_reward_P, rejected_reward_P, probability_P)


def apo_down(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor) -> Tensor:
    """σ(r_chosen) + (1 − σ(r_chosen − r_rejected)): both down, rejected more (arXiv 2408.06266, equation 8)."""

    def loss(better_P: Tensor, worse_P: Tensor) -> Tensor:
        return torch.sigmoid(better_P) + (1 - torch.sigmoid(better_P - worse_P))

    return soft_label(loss, chosen_reward_P, rejected_reward_P, probability_P)


def orpo(chosen_mean_P: Tensor, rejected_mean_P: Tensor, probability_P: Tensor, weight: float) -> Tensor:
    """−log P(chosen) − λ·log σ(log odds(chosen) − log odds(rejected)) (Hong et al., arXiv 2403.07691, equation 6).

    log P is the mean log-probability of a completion's tokens (equation 3), odds P/(1−P) (equation 4), the second term
    equation 7. No reference.

    Args:
        chosen_mean_P: mean log-probability per token of each chosen completion, (P,).
        rejected_mean_P: of each rejected one, (P,).
        probability_P: q, (P,).
        weight: λ.
    """

    def loss(better_P: Tensor, worse_P: Tensor) -> Tensor:
        return -better_P - weight * logsigmoid(log_odds(better_P) - log_odds(worse_P))

    return soft_label(loss, chosen_mean_P, rejected_mean_P, probability_P)


def supervised(chosen_mean_P: Tensor, rejected_mean_P: Tensor, probability_P: Tensor) -> Tensor:
    """−log P(chosen) per token, the term that Iterative RPO adds to DPO (arXiv 2404.19733, equation 1)."""
    return soft_label(lambda better, _: -better, chosen_mean_P, rejected_mean_P, probability_P)


def log_odds(logprob: Tensor) -> Tensor:
    """log(p/(1−p)) from log p < 0, without cancellation near p = 1. Any shape.

    log(1−p) = log(−expm1(log p)); log p is kept 1e-7 below 0, where the odds would be infinite.
    """
    safe = logprob.clamp(max=-1e-7)
    return safe - torch.log(-torch.expm1(safe))
