"""Advantage estimators: how much better each token was than expected. A registry of pure functions.

Estimators of whole completions (RLOO, GRPO, REINFORCE) give every token of a completion the same number; GAE tells
tokens apart with a critic. A completion that is not `scored` is in no mean, no deviation and gets 0. Left out: moving
baselines' state (the caller keeps it), length-adaptive λ, tool calls in between.

Shapes: N completions, T tokens of the longest one. Advantages behind a completion's end are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

AdvantageName = Literal["gae", "rloo", "group_mean", "group_standardised", "batch_mean", "moving_baseline"]

GROUP_EPS = 1e-6
"""Added to a group's standard deviation, so that a group without variance gives 0."""


class Outcomes(NamedTuple):
    """What the completions of one rollout batch earned."""

    reward_NT: Tensor
    """Reward of each token, the KL penalty and the score at the end included; 0 behind the end."""
    mask_NT: Tensor
    """True for real tokens."""
    scored_N: Tensor
    """False where no source gave a score."""
    group_N: Tensor
    """Number of the prompt, from 0."""
    value_NT: Tensor | None = None
    """The critic's value before each token."""

    @property
    def return_N(self) -> Tensor:  # noqa: N802
        """Sum of a completion's rewards, 0 where it was not scored, (N,)."""
        return (self.reward_NT * self.mask_NT).sum(1) * self.scored_N

    @property
    def counted_NT(self) -> Tensor:  # noqa: N802
        """True for the tokens that count in means, bool (N, T)."""
        return self.mask_NT & self.scored_N[:, None]


class Knobs(NamedTuple):
    """What some estimators take besides outcomes."""

    gamma: float = 1.0
    lam: float = 0.95
    baseline: float = 0.0
    """The moving baseline as it was before this batch."""


def gae(reward_NT: Tensor, value_NT: Tensor, mask_NT: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation, A_t = Σ_l (γλ)^l·δ_{t+l} (arXiv 1506.02438, equation 16).

    δ_t = r_t + γ·V(s_{t+1}) − V(s_t) is the one-step error; behind the last token V = 0, because the episode is
    over whether the completion ended or was cut off. The sum over l is one product with a triangular matrix of decays.

    Args:
        reward_NT: reward of each token, (N, T).
        value_NT: value before each token, (N, T).
        mask_NT: True for real tokens, which are the first ones of each row, (N, T).
        gamma: discount γ.
        lam: λ; 1 is return minus value, 0 the one-step error.

    Returns:
        Advantages (N, T); A + V is the critic's target.
    """
    value_NT = value_NT * mask_NT
    next_NT = torch.cat([value_NT[:, 1:], value_NT.new_zeros(len(value_NT), 1)], dim=1)
    delta_NT = (reward_NT + gamma * next_NT - value_NT) * mask_NT
    place_T = torch.arange(delta_NT.shape[1], device=delta_NT.device)
    ahead_TT = place_T[:, None] - place_T[None, :]
    # Row s, column t: the weight of δ_s in A_t. The clamp keeps 0⁰ = 1 and negative powers out.
    decay_TT = torch.where(ahead_TT >= 0, (gamma * lam) ** ahead_TT.clamp(min=0).to(delta_NT.dtype), 0.0)
    return (delta_NT @ decay_TT) * mask_NT


def leave_one_out(outcomes: Outcomes) -> Tensor:
    """R_i minus the mean return of the prompt's other completions (RLOO, arXiv 2402.14740). (N,)."""
    count_N, mean_N = _group_moments(outcomes)[:2]
    # R − (ΣR − R)/(k−1) = (R − ΣR/k)·k/(k−1); a completion alone has nothing to compare with.
    share_N = torch.where(count_N > 1, count_N / (count_N - 1).clamp(min=1), 0.0)
    return (outcomes.return_N - mean_N) * share_N


def group_mean(outcomes: Outcomes) -> Tensor:
    """R_i minus the mean of the prompt's completions (Dr. GRPO, arXiv 2503.20783, section 3.2). (N,)."""
    count_N, mean_N = _group_moments(outcomes)[:2]
    return (outcomes.return_N - mean_N) * (count_N > 1)


def group_standardised(outcomes: Outcomes) -> Tensor:
    """(R_i − mean)/(sd + 1e-6) over the prompt's completions (GRPO, arXiv 2402.03300, section 4.1.2). (N,).

    The standard deviation has the divisor k−1, as the published implementations do.
    """
    _, _, sd_N = _group_moments(outcomes)
    return group_mean(outcomes) / (sd_N + GROUP_EPS)


def batch_mean(outcomes: Outcomes) -> Tensor:
    """R_i minus the mean over the whole batch (REINFORCE with a baseline, Williams, 1992). (N,)."""
    return outcomes.return_N - mean_return(outcomes)


def mean_return(outcomes: Outcomes) -> Tensor:
    """Mean return of the scored completions, 0 where there is none; a scalar."""
    return outcomes.return_N.sum() / outcomes.scored_N.sum().clamp(min=1)


def whiten(value_NT: Tensor, counted_NT: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Bring the counted entries to standard deviation 1, and to mean 0 unless `shift_mean` is off; the others are 0.

    Over the whole batch (detail 7 of "37 implementation details", per rollout batch instead of per micro-batch).
    Entries that do not count neither move the moments nor come back as anything but 0. (N, T) → (N, T).
    """
    count = counted_NT.sum().clamp(min=1)
    mean = (value_NT * counted_NT).sum() / count
    variance = ((value_NT - mean).square() * counted_NT).sum() / count
    white_NT = (value_NT - mean) * torch.rsqrt(variance + 1e-8)
    return (white_NT if shift_mean else white_NT + mean) * counted_NT


def _gae(outcomes: Outcomes, knobs: Knobs) -> Tensor:
    if outcomes.value_NT is None:
        raise ValueError("generalised advantage estimation needs a critic's values")
    return gae(outcomes.reward_NT, outcomes.value_NT, outcomes.mask_NT, knobs.gamma, knobs.lam)


def _whole(estimator: Callable[[Outcomes, Knobs], Tensor]) -> Callable[[Outcomes, Knobs], Tensor]:
    """An estimator of completions as one of tokens."""
    return lambda outcomes, knobs: estimator(outcomes, knobs)[:, None] * outcomes.mask_NT


ADVANTAGES: Mapping[AdvantageName, Callable[[Outcomes, Knobs], Tensor]] = {
    "gae": _gae,
    "rloo": _whole(lambda outcomes, _: leave_one_out(outcomes)),
    "group_mean": _whole(lambda outcomes, _: group_mean(outcomes)),
    "group_standardised": _whole(lambda outcomes, _: group_standardised(outcomes)),
    "batch_mean": _whole(lambda outcomes, _: batch_mean(outcomes)),
    "moving_baseline": _whole(lambda outcomes, knobs: outcomes.return_N - knobs.baseline),
}


def advantages(name: AdvantageName, outcomes: Outcomes, knobs: Knobs) -> Tensor:
    """The named estimator, with 0 for tokens that do not count. (N, T)."""
    return ADVANTAGES[name](outcomes, knobs) * outcomes.counted_NT


def _group_moments(outcomes: Outcomes) -> tuple[Tensor, Tensor, Tensor]:
    """For each completion the count, mean and standard deviation of its group's scored returns, (N,) each."""
    groups = int(outcomes.group_N.max()) + 1
    scored_N, return_N = outcomes.scored_N.to(outcomes.reward_NT.dtype), outcomes.return_N

    def summed(value_N: Tensor) -> Tensor:
        total = value_N.new_zeros(groups).index_add(0, outcomes.group_N, value_N * scored_N)
        return total[outcomes.group_N]

    count_N = summed(torch.ones_like(return_N))
    mean_N = summed(return_N) / count_N.clamp(min=1)
    variance_N = summed((return_N - mean_N).square()) / (count_N - 1).clamp(min=1)
    return count_N, mean_N, variance_N.sqrt()
