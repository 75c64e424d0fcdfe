"""Helpful subject to harmless ≥ c, on a bandit: the constraint is met, and no more than met."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.training.test_rewards import NOTHING, Fixed
from training.rewards import Mixture

HELPFUL = torch.tensor([1.0, 0.2, -0.7], dtype=torch.float64)
HARMLESS = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
"""The most helpful arm is the harmful one."""
WANTED = 0.8
KL_WEIGHT = 0.02


def late_means(bound: float | None, steps: int = 1500) -> tuple[float, float, float]:
    """Mean helpful and harmless of the second half, and the dual variable: batches are sampled, gradients exact."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(3, dtype=torch.float64)
    helpful, harmless = Fixed("helpful", []), Fixed("harmless", [])
    mixture = Mixture([helpful, harmless], [1.0, 0.0], [None, bound], dual_learning_rate=0.05)
    seen: list[Tensor] = []
    for _ in range(steps):
        probability = logits.softmax(0)
        arms = torch.multinomial(probability, 128, replacement=True, generator=generator)
        helpful.values, harmless.values = HELPFUL[arms], HARMLESS[arms]
        values = mixture.score(NOTHING).value_N
        # REINFORCE with the batch mean as baseline; KL to the uniform start, exactly.
        advantage = values - values.mean()
        gradient = torch.zeros(3, dtype=torch.float64).index_add(0, arms, advantage) / len(arms)
        gradient -= KL_WEIGHT * probability * (probability.log() - (probability * probability.log()).sum())
        logits = logits + 0.3 * (gradient - probability * gradient.sum())
        seen.append(torch.stack([helpful.values.mean(), harmless.values.mean()]))
    late = torch.stack(seen[steps // 2 :]).mean(0).tolist()
    return late[0], late[1], mixture.duals[1]


def test_the_constraint_is_met_and_the_rest_goes_to_what_is_wanted() -> None:
    """With mean harmless c, the most helpful is (1 − c) of arm 0 and c of arm 1: 0.2·1 + 0.8·0.2 = 0.36."""
    helpful, harmless, _ = late_means(None)
    assert harmless < 0.05 and helpful > 0.95
    helpful, harmless, dual = late_means(WANTED)
    assert abs(harmless - WANTED) < 0.03
    assert abs(helpful - 0.36) < 0.05
    assert dual > 0
