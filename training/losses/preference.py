"""Losses of preference optimisation: DPO with soft labels.

Inputs are summed log-probabilities of whole completions. Left out: averaging (the engine's), the reference model (its
log-probabilities come as numbers) and the other objectives of the family, which take the same arguments.

Shapes: P is the number of pairs.
"""

from __future__ import annotations

from torch import Tensor

from training.losses.reward import soft_logistic


def implicit_reward(policy_logprob: Tensor, reference_logprob: Tensor, beta: float) -> Tensor:
    """β·log(π/π_ref), the reward that DPO optimises without a model of it (arXiv 2305.18290, equation 5 without Z).

    Shapes: any, both alike. Unit: nats times β.
    """
    return beta * (policy_logprob - reference_logprob)


def dpo(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor) -> Tensor:
    """Direct preference optimisation with a soft label q: −q·log σ(h) − (1−q)·log σ(−h), h their margin.

    q = 1 is DPO (arXiv 2305.18290, equation 7); a constant q = 1−ε is conservative DPO (Mitchell, 2023,
    ericmitchell.ai/cdpo.pdf). Its minimum is at h = log(q/(1−q)), so a soft label also says how far to move.

    Args:
        chosen_reward_P: `implicit_reward` of each pair's chosen completion, (P,).
        rejected_reward_P: that of its rejected completion, (P,).
        probability_P: q, the label's probability that chosen is better, in [0, 1], (P,).

    Returns:
        The loss of each pair in nats, (P,).
    """
    return soft_logistic(chosen_reward_P - rejected_reward_P, probability_P)


def kl_forward(policy_logprob_N: Tensor, reference_logprob_N: Tensor) -> Tensor:
    """k1 = log(π_ref/π), on draws from π_ref unbiased for KL(π_ref‖π); may be negative. (N,) → (N,) nats."""
    return reference_logprob_N - policy_logprob_N


def kl_second_order(policy_logprob_N: Tensor, reference_logprob_N: Tensor) -> Tensor:
    """k2 = ½·log²(π/π_ref) (Schulman, 2020, joschu.net/blog/kl-approx.html): both KLs to second order, never negative.

    On the training pairs k1 cancels (chosen rises while rejected falls), k2 does not; far from the reference k2 is too
    large rather than too small, which is the safe side for an early stop. (N,) → (N,) nats per completion.
    """
    return 0.5 * (policy_logprob_N - reference_logprob_N).square()
