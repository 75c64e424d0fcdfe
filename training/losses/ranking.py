"""Likelihoods of a reward model beyond pairs that count once: whole rankings, and pairs that may be tied.

Left out: averaging, and Bradley-Terry itself with its K-wise weighting (`reward`). Ties could also be Rao and Kupper's
(1967); Davidson's form is smooth in the rewards and its strength is read off easily.

Shapes: P pairs, E rankings, K places of the longest one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def plackett_luce(reward_EK: Tensor, count_E: Tensor) -> Tensor:
    """Negative log-likelihood of rankings: Σ_k logsumexp(r_k … r_K) − r_k over the places from the best to the last.

    (Luce, 1959; Plackett, 1975; arXiv 2305.18290, equation 18.) With K = 2 it is Bradley-Terry with a hard label.

    Args:
        reward_EK: rewards in the order of the ranking, best first; anything behind a ranking's end, (E, K).
        count_E: how many places each ranking has, (E,).

    Returns:
        The loss of each ranking in nats, (E,).
    """
    place_K = torch.arange(reward_EK.shape[1], device=reward_EK.device)
    real_EK = place_K < count_E[:, None]
    # −inf would give NaN gradients where a whole tail is padding.
    filled_EK = reward_EK.masked_fill(~real_EK, torch.finfo(reward_EK.dtype).min / 2)
    rest_EK = filled_EK.flip(1).logcumsumexp(1).flip(1)
    return (rest_EK - filled_EK).masked_fill(~real_EK, 0.0).sum(1)


def davidson(chosen_reward_P: Tensor, rejected_reward_P: Tensor, probability_P: Tensor, strength: float) -> Tensor:
    """Negative log-likelihood of pairs that may be tied (Davidson, 1970, JASA 65(329), 317–328).

    With d = chosen − rejected, wins have weight e^{d/2}, losses e^{−d/2}, ties ν. A label of exactly ½ is a tie; any
    other is a win with probability q and else a loss.

    Args:
        chosen_reward_P: reward of each pair's chosen completion, (P,).
        rejected_reward_P: of its rejected one, (P,).
        probability_P: q, (P,).
        strength: ν > 0; two equal completions tie with probability ν/(2+ν).

    Returns:
        The loss of each pair in nats, (P,).
    """
    half_P = 0.5 * (chosen_reward_P - rejected_reward_P)
    log_tie_P = torch.full_like(half_P, strength).log()
    total_P = torch.stack([half_P, -half_P, log_tie_P]).logsumexp(0)
    decided_P = total_P - (2 * probability_P - 1) * half_P
    return torch.where(probability_P == 0.5, total_P - log_tie_P, decided_P)
