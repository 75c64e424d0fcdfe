"""Losses of reward models: Bradley-Terry with soft labels and margins, and the term that keeps rewards near zero.

Left out: averaging (the engine divides by the pairs of the whole optimiser step) and K-wise or pointwise likelihoods.
All pairs of one prompt, as in InstructGPT (arXiv 2203.02155, equation 1), are simply P pairs here; every pair counts
once.

Shapes: P is the number of pairs.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(
    chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor, margin_P: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of a soft preference under the Bradley-Terry model, in nats.

    With d = chosen − rejected − margin the loss is −q·log σ(d) − (1−q)·log σ(−d); q = 1 gives InstructGPT (arXiv
    2203.02155, equation 1), q = 1 with a margin gives Llama 2 (arXiv 2307.09288, equation 2), q in between the soft
    labels of RLAIF.

    Args:
        chosen_reward_P: reward of each pair's chosen completion, (P,).
        rejected_reward_P: reward of its rejected completion, (P,).
        probability_P: q, the label's probability that chosen is better, in [0, 1], (P,).
        margin_P: by how much chosen should win, (P,); None means 0.

    Returns:
        The loss of each pair, (P,).
    """
    difference_P = chosen_reward_P - rejected_reward_P
    if margin_P is not None:
        difference_P = difference_P - margin_P
    return soft_logistic(difference_P, probability_P)


def soft_logistic(logit_P: Tensor, probability_P: Tensor) -> Tensor:
    """Cross-entropy −q·log σ(x) − (1−q)·log σ(−x) between a label q and a logit x; safe for large |x|. (P,) → (P,)."""
    return -probability_P * logsigmoid(logit_P) - (1 - probability_P) * logsigmoid(-logit_P)


def centering(chosen_reward_P: Tensor, rejected_reward_P: Tensor) -> Tensor:
    """Squared sum of a pair's rewards, which fixes the free constant (arXiv 2312.09244). (P,) → (P,)."""
    return (chosen_reward_P + rejected_reward_P).square()
