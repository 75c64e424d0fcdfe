"""Losses of policy gradients, token by token: clipped surrogate, clipped value, KL estimators, sampler correction.

Every function is of numbers per token; which tokens count and how much is the caller's, so that a mean can be taken
over the whole optimiser step. Left out: advantages (`training.advantages`), rewards (`training.reward_shaping`).

Shapes: M completion tokens of a batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3", "k3_plain"]

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped here before `exp`: e²⁰ is far outside every clip range and still finite in float32."""


def ratio(new_M: Tensor, old_M: Tensor) -> Tensor:
    """π_new/π_old of each token from log-probabilities in nats. (M,) → (M,)."""
    return (new_M - old_M).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def clipped_surrogate(
    ratio_M: Tensor, advantage_M: Tensor, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> Tensor:
    """−min(ρ·A, clip(ρ, 1−ε_low, 1+ε_high)·A) (PPO, arXiv 1707.06347, eq. 7; two bounds: DAPO, 2503.14476, eq. 10).

    At ρ = 1 its gradient is −A·∇log π, the plain policy gradient. With `dual_clip` c > 1 the loss of a negative
    advantage is at most c·|A| (dual clip, arXiv 1912.09729), where ρ·A alone has no bound.

    Args:
        ratio_M: ρ, (M,).
        advantage_M: A, (M,).
        clip_low: ε_low in (0, 1).
        clip_high: ε_high above 0.
        dual_clip: c, or None.

    Returns:
        The loss of each token, (M,).
    """
    clipped_M = ratio_M.clamp(1 - clip_low, 1 + clip_high)
    loss_M = torch.maximum(-ratio_M * advantage_M, -clipped_M * advantage_M)
    if dual_clip is None:
        return loss_M
    return torch.where(advantage_M < 0, torch.minimum(loss_M, -dual_clip * advantage_M), loss_M)


def is_clipped(ratio_M: Tensor, advantage_M: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """True where the clip holds the gradient back: ρ has already moved out in the direction of A. bool (M,)."""
    return ((advantage_M > 0) & (ratio_M > 1 + clip_high)) | ((advantage_M < 0) & (ratio_M < 1 - clip_low))


def clipped_value(value_M: Tensor, old_value_M: Tensor, return_M: Tensor, clip: float | None) -> Tensor:
    """½·max((V−R)², (V_clip−R)²), V_clip within ±clip of the old value (detail 9 of "37 implementation details").

    None means ½·(V−R)². (M,) → (M,).
    """
    error_M = (value_M - return_M).square()
    if clip is None:
        return 0.5 * error_M
    held_M = old_value_M + (value_M - old_value_M).clamp(-clip, clip)
    return 0.5 * torch.maximum(error_M, (held_M - return_M).square())


def kl_value(policy_M: Tensor, reference_M: Tensor, estimator: Literal["k1", "k2", "k3"]) -> Tensor:
    """Estimates of KL(π‖π_ref) for tokens drawn from π (Schulman, 2020, joschu.net/blog/kl-approx.html).

    With l = log π − log π_ref: k1 = l (unbiased, may be negative), k2 = l²/2 (biased, never negative),
    k3 = e^{−l} − 1 + l (unbiased, never negative). (M,) → (M,) nats.
    """
    log_ratio_M = policy_M - reference_M
    if estimator == "k1":
        return log_ratio_M
    if estimator == "k2":
        return 0.5 * log_ratio_M.square()
    return (-log_ratio_M).clamp(max=LOG_RATIO_LIMIT).expm1() + log_ratio_M


def kl_loss(policy_M: Tensor, reference_M: Tensor, estimator: KLEstimator) -> Tensor:
    """A KL term for the loss: the estimator's value with the gradient of KL(π‖π_ref).

    ∇KL = E_π[l·∇log π], which is the gradient of k2 alone: that of k1 is 0 on average, that of k3 belongs to
    KL(π_ref‖π). So k1 and k3 keep their value and take k2's gradient. `k3_plain` keeps its own too, as GRPO is
    published (arXiv 2402.03300, equation 4). Tokens must come from π; after the first step of a batch multiply by the
    ratio. (M,) → (M,) nats.
    """
    if estimator == "k3_plain":
        return kl_value(policy_M, reference_M, "k3")
    gradient_M = kl_value(policy_M, reference_M, "k2")
    return gradient_M + (kl_value(policy_M.detach(), reference_M, estimator) - gradient_M.detach())


def truncated_importance(trainer_M: Tensor, sampler_M: Tensor, cap: float) -> Tensor:
    """min(π_trainer/π_sampler, cap), the weight of a token whose sampler computes other probabilities than the trainer.

    (Ionides, 2008; for language models Yao et al., 2025, "Your efficient RL framework secretly brings you off-policy
    RL training", truncated importance sampling.) Carries no gradient. (M,) → (M,).
    """
    return ratio(trainer_M, sampler_M).clamp(max=cap).detach()
