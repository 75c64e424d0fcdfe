"""What the engine minimises on rollouts: the policy's surrogate and the critic's error, with weights for each token.

Every token has a weight, and every element a share of the step's denominator, so that all ways to average are one sum:

    token_mean      weight 1            share: counted tokens        sequence_mean   1/length    share: completions
    sequence_sum    weight 1            share: completions           constant        1/limit     share: completions

A completion without a score has weight 0 and no share. The pretraining term of PPO-ptx rides along as elements whose
tokens have no surrogate, only a likelihood; their share is 0 and the weights make up for it. Left out: how advantages
come about (`policy_gradient`).

Shapes: M completion tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ratify.policy_gradient_section import Aggregation, PolicyGradientSection
from training.data import Element
from training.engine import Mean, Terms
from training.logprobs import CompletionLogprobs
from training.losses.policy_gradient import (
    clipped_surrogate,
    clipped_value,
    is_clipped,
    kl_loss,
    kl_value,
    ratio,
    truncated_importance,
)
from training.tree import TokenBatch


class Experience(NamedTuple):
    """What is known of an element's completion tokens, (M,) each, when learning begins."""

    sampler_M: Tensor
    """Log-probabilities by the sampler, nats."""
    old_M: Tensor
    """The same tokens' by the trainer before the first step on them."""
    reference_M: Tensor
    advantage_M: Tensor
    value_M: Tensor
    """The critic's before the first step; zeros without a critic."""
    return_M: Tensor
    """What the critic should have said."""
    weight_M: Tensor
    """Share of each token in the summed loss; 0 where the completion has no score."""
    likelihood_M: Tensor
    """Weight of −log π: nought for rollouts."""
    share: float
    """The element's part of the step's denominator."""


def token_weights(counts: Sequence[int], counted: Sequence[bool], aggregation: Aggregation, limit: int) -> Tensor:
    """Weights of a prompt's completion tokens in the order of completions, (M,); see the table above."""

    def weight(count: int) -> float:
        return 1 / count if aggregation == "sequence_mean" else 1 / limit if aggregation == "constant" else 1.0

    parts = [torch.full((count,), weight(count) if kept else 0.0) for count, kept in zip(counts, counted, strict=True)]
    return torch.cat(parts)


def element_share(counts: Sequence[int], counted: Sequence[bool], aggregation: Aggregation) -> float:
    """The prompt's part of the denominator: its counted tokens, or its counted completions."""
    return float(
        sum((c if aggregation == "token_mean" else 1) for c, kept in zip(counts, counted, strict=True) if kept)
    )


class RolloutObjective:
    """What policy and critic share: finding the experience of elements again, and no state of their own."""

    def __init__(self, section: PolicyGradientSection, experience: Mapping[int, Experience]) -> None:
        self.section = section
        self.experience = experience
        """By identity of the element in this process, which lives as long as the rollout batch."""

    def weight(self, element: Element) -> float:
        """The element's part of the denominator."""
        return self.experience[id(element)].share

    def gather(self, elements: Sequence[Element], device: torch.device) -> Experience:
        """Tokens of all elements in the order in which they are laid out."""
        parts = [self.experience[id(element)] for element in elements]
        tensors = [torch.cat(column).to(device) for column in zip(*(part[:-1] for part in parts), strict=True)]
        return Experience._make([*tensors, sum(part.share for part in parts)])

    def stop_reason(self, means: Mapping[str, float]) -> str | None:  # noqa: ARG002
        """Never."""
        return None

    def state(self) -> dict[str, Any]:
        """Kept by the loop, not here."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Kept by the loop, not here."""


class PolicyObjective(RolloutObjective):
    """Clipped surrogate, KL term, entropy bonus and pretraining term."""

    def __init__(self, section: PolicyGradientSection, experience: Mapping[int, Experience], kl: float) -> None:
        super().__init__(section, experience)
        self.kl_coefficient = kl if section.method.kl_in == "loss" else 0.0
        self.largest_ratio = 0.0
        """Of counted tokens, over this process's part of the steps so far."""

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        """Summed loss and metrics of a micro-batch."""
        output: CompletionLogprobs = scorer(batch)
        data = self.gather(elements, output.token_M.device)
        new_M, section = output.token_M, self.section
        ratio_M = ratio(new_M, data.old_M)
        loss_M = self._surrogate(ratio_M, data)
        if self.kl_coefficient:
            # Away from the sampling policy the estimate needs the ratio, which is 1 in the first pass.
            penalty_M = kl_loss(new_M, data.reference_M, section.kl_estimator) * ratio_M.detach()
            loss_M = loss_M + self.kl_coefficient * penalty_M
        if section.entropy_weight and output.entropy_M is not None:
            loss_M = loss_M - section.entropy_weight * output.entropy_M
        loss = (loss_M * data.weight_M).sum() - (new_M * data.likelihood_M).sum()
        return Terms(loss, self._metrics(new_M.detach(), ratio_M.detach(), loss_M.detach(), data))

    def _surrogate(self, ratio_M: Tensor, data: Experience) -> Tensor:
        section, clip_high = self.section, self.section.method.clip_high
        loss_M = clipped_surrogate(ratio_M, data.advantage_M, section.clip_low, clip_high, section.dual_clip)
        if section.importance_cap is None:
            return loss_M
        return loss_M * truncated_importance(data.old_M, data.sampler_M, section.importance_cap)

    def _metrics(self, new_M: Tensor, ratio_M: Tensor, loss_M: Tensor, data: Experience) -> dict[str, Mean]:
        counted_M = data.weight_M > 0
        count = float(counted_M.sum())
        learnt_M = data.likelihood_M > 0
        found: dict[str, Mean] = {}
        if count:
            section = self.section
            clipped_M = is_clipped(ratio_M, data.advantage_M, section.clip_low, section.method.clip_high)
            self.largest_ratio = max(self.largest_ratio, float(ratio_M[counted_M].max()))
            found = {
                "policy_loss": Mean((loss_M * data.weight_M).sum(), data.share),
                "ratio": Mean(ratio_M[counted_M].sum(), count),
                "clip_fraction": Mean(clipped_M[counted_M].float().sum(), count),
                "step_kl": Mean(kl_value(data.old_M, new_M, "k3")[counted_M].sum(), count),
            }
        if learnt_M.any():
            found["pretraining_logprob"] = Mean(new_M[learnt_M].sum(), float(learnt_M.sum()))
        return found

    def stop_reason(self, means: Mapping[str, float]) -> str | None:
        """Why the passes over this batch end here."""
        limit, step_kl = self.section.max_step_kl, means.get("step_kl", 0.0)
        return f"step KL {step_kl:.4f}" if limit is not None and step_kl > limit else None


class ValueObjective(RolloutObjective):
    """The critic's clipped squared error; every counted token counts once."""

    def weight(self, element: Element) -> float:
        """Counted tokens, whatever the policy's aggregation is."""
        return float((self.experience[id(element)].weight_M > 0).sum())

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        """Summed loss of a micro-batch."""
        value_M: Tensor = scorer(batch)
        data = self.gather(elements, value_M.device)
        clip = 0.2 if self.section.value_clip is None else self.section.value_clip
        loss_M = clipped_value(value_M, data.value_M, data.return_M, clip)
        return Terms((loss_M * (data.weight_M > 0)).sum(), {})
