"""Losses of preference optimisation that depend on a margin: DPO and its kin, with soft labels.

Every loss ℓ(h) of a margin h takes a label q and is q·ℓ(h) + (1−q)·ℓ(−h), the mean over which completion is the
better one; q = 1 is the loss as its paper has it. Inputs are rewards, which for most objectives are
`implicit_reward`s of summed log-probabilities. Left out: averaging and weights of rows (the caller's), the reference
model (its log-probabilities come as numbers), losses that look at each completion for itself (`absolute`), and
DiscoPOP, AOT, EXO, NCA.

Shapes: P is the number of pairs, N of completions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from training.losses.reward import soft_logistic


def implicit_reward(policy_logprob: Tensor, reference_logprob: Tensor, beta: float) -> Tensor:
    """β·log(π/π_ref), the reward that DPO optimises without a model of it (arXiv 2305.18290, equation 5 without Z).

    Shapes: any, both alike. Unit: nats times β.
    """
    return beta * (policy_logprob - reference_logprob)


def soft_label(loss: Callable[[Tensor, Tensor], Tensor], chosen_P: Tensor, rejected_P: Tensor, q_P: Tensor) -> Tensor:
    """q·ℓ(chosen, rejected) + (1−q)·ℓ(rejected, chosen), the expected loss when chosen is better with probability q."""
    return q_P * loss(chosen_P, rejected_P) + (1 - q_P) * loss(rejected_P, chosen_P)


def dpo(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor) -> Tensor:
    """Direct preference optimisation with a soft label q: −q·log σ(h) − (1−q)·log σ(−h), h their margin.

    q = 1 is DPO (arXiv 2305.18290, equation 7). Its minimum is at h = log(q/(1−q)), so a soft label also says how far
    to move.

    Args:
        chosen_reward_P: `implicit_reward` of each pair's chosen completion, (P,).
        rejected_reward_P: that of its rejected completion, (P,).
        probability_P: q, the label's probability that chosen is better, in [0, 1], (P,).

    Returns:
        The loss of each pair in nats, (P,).
    """
    return soft_logistic(chosen_reward_P - rejected_reward_P, probability_P)


def conservative_dpo(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor, eps: float) -> Tensor:
    """DPO where a share ε of the labels is taken to be wrong: q becomes q·(1−ε) + (1−q)·ε.

    With q = 1 this is conservative DPO (Mitchell, 2023, ericmitchell.ai/cdpo.pdf); its margin stops at log((1−ε)/ε).
    """
    return dpo(chosen_reward_P, rejected_reward_P, probability_P * (1 - eps) + (1 - probability_P) * eps)


def robust_dpo(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor, eps: float) -> Tensor:
    """((1−ε)·ℓ(h) − ε·ℓ(−h)) / (1−2ε) with ℓ of DPO (Chowdhury et al., arXiv 2403.00409, the robust loss L_ε).

    Where labels are flipped with probability ε its mean is DPO's loss on the true labels: unbiased, so it may go below
    nought, and without a minimum for q = 1.
    """
    clean_P = dpo(chosen_reward_P, rejected_reward_P, probability_P)
    flipped_P = dpo(rejected_reward_P, chosen_reward_P, probability_P)
    return ((1 - eps) * clean_P - eps * flipped_P) / (1 - 2 * eps)


def odpo(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor, offset_P: Tensor) -> Tensor:
    """DPO that wants the margin to exceed an offset Δ: −log σ(h − Δ) (Amini et al., arXiv 2402.10571, loss L_ODPO).

    A reversed pair has the offset −Δ, so a soft label's minimum is at h = Δ + log(q/(1−q)).
    """
    return soft_logistic(chosen_reward_P - rejected_reward_P - offset_P, probability_P)


def log_offset(margin_P: Tensor, scale: float) -> Tensor:
    """ODPO's offset Δ = α·log(difference of scores), its paper's choice of f (arXiv 2402.10571); margins above 0."""
    return scale * margin_P.log()


def ipo(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor, beta: float) -> Tensor:
    """(h − 1/(2β))² on log-ratios (Azar et al., arXiv 2310.12036, equation 17 with β for τ).

    `ipo_sum` has h of whole completions, as the equation is written; `ipo_mean` of log-ratios per token, which the
    authors have said they used and which TRL's DPO trainer computes. Rewards come as β·log-ratio, hence the division.
    """

    def loss(better_P: Tensor, worse_P: Tensor) -> Tensor:
        return ((better_P - worse_P) / beta - 1 / (2 * beta)).square()

    return soft_label(loss, chosen_reward_P, rejected_reward_P, probability_P)


def hinge(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor) -> Tensor:
    """max(0, 1 − h), the loss of SLiC (arXiv 2305.10425) on DPO's rewards, as in RSO (arXiv 2309.06657)."""

    def loss(better_P: Tensor, worse_P: Tensor) -> Tensor:
        return (1 - (better_P - worse_P)).relu()

    return soft_label(loss, chosen_reward_P, rejected_reward_P, probability_P)


def simpo(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor, target_margin: float) -> Tensor:
    """−log σ(h − γ) on rewards β·(mean log-probability of a completion's tokens) (arXiv 2405.14734, equation 6).

    No reference. Each order of a soft label wants its own winner ahead by γ.
    """

    def loss(better_P: Tensor, worse_P: Tensor) -> Tensor:
        return soft_logistic(better_P - worse_P - target_margin, torch.ones_like(better_P))

    return soft_label(loss, chosen_reward_P, rejected_reward_P, probability_P)


def kl_forward(policy_logprob_N: Tensor, reference_logprob_N: Tensor) -> Tensor:
    """k1 = log(π_ref/π), on draws from π_ref unbiased for KL(π_ref‖π); may be negative. (N,) → (N,) nats."""
    return reference_logprob_N - policy_logprob_N


def kl_second_order(policy_logprob_N: Tensor, reference_logprob_N: Tensor) -> Tensor:
    """k2 = ½·log²(π/π_ref) (Schulman, 2020, joschu.net/blog/kl-approx.html): both KLs to second order, never negative.

    On the training pairs k1 cancels (chosen rises while rejected falls), k2 does not; far from the reference k2 is too
    large rather than too small, which is the safe side for an early stop. (N,) → (N,) nats per completion.
    """
    return 0.5 * (policy_logprob_N - reference_logprob_N).square()
