"""From the score of a completion to the reward of each token: KL penalty everywhere, the score on the last token.

The last *response* token is the end-of-turn token where the policy wrote one, else the last token that it wrote; it is
found by length, never by looking for a pad token, which may be the same as the end of turn. Left out: where scores come
from (`rewards`), length shaping.

Shapes: N completions, T tokens of the longest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


def token_rewards(score_N: Tensor, log_ratio_NT: Tensor, count_N: Tensor, coefficient: float) -> Tensor:
    """r_t = −β·(log π − log π_ref)_t, plus the score at t = last token (InstructGPT, arXiv 2203.02155, equation 2).

    The penalty is k1 token by token, as in arXiv 1909.08593, equation 2: its sum is −β·log(π/π_ref) of the completion.

    Args:
        score_N: of each completion, (N,).
        log_ratio_NT: log π − log π_ref of each token at sampling time, in nats, (N, T).
        count_N: tokens of each completion, at least 1, (N,).
        coefficient: β; 0 leaves the penalty out.

    Returns:
        Rewards (N, T), 0 behind the end.
    """
    place_T = torch.arange(log_ratio_NT.shape[1], device=log_ratio_NT.device)
    reward_NT = torch.where(place_T < count_N[:, None], -coefficient * log_ratio_NT, 0.0)
    last_NT = place_T == count_N[:, None] - 1
    return reward_NT + torch.where(last_NT, score_N[:, None], 0.0)


def without_end_penalty(score_N: Tensor, finished_N: Tensor, penalty: float) -> Tensor:
    """Subtract `penalty` from the score of completions that did not end by themselves; tokens are never altered.

    Subtracted, not put in the score's place: a fixed score would reward being cut off wherever the reward is below it.
    (N,), bool (N,) → (N,).
    """
    return torch.where(finished_N, score_N, score_N - penalty)


class RunningMoments(NamedTuple):
    """Mean and variance of all scores so far (Chan, Golub and LeVeque, 1979), kept in checkpoints."""

    seen: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations."""

    def updated(self, scores: Sequence[float]) -> RunningMoments:
        """With the scores of another batch."""
        if not scores:
            return self
        count = len(scores)
        mean = sum(scores) / count
        squares = sum((score - mean) ** 2 for score in scores)
        total, gap = self.seen + count, mean - self.mean
        return RunningMoments(
            total, self.mean + gap * count / total, self.squares + squares + gap**2 * self.seen * count / total
        )

    @property
    def sd(self) -> float:
        """Standard deviation; 1 as long as all scores are alike."""
        spread = (self.squares / self.seen) ** 0.5 if self.seen else 0.0
        return spread if spread > 0 else 1.0

    def normalised(self, score_N: Tensor) -> Tensor:
        """(score − mean)/sd. (N,) → (N,)."""
        return (score_N - self.mean) / self.sd

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> RunningMoments:
        """From a checkpoint's JSON."""
        return cls(**state)
