"""The registry of preference objectives: for each name the reward of a completion and the loss of a pair.

An entry is two functions of numbers that the task has anyway, so a new objective is one line here, its mathematics in
`losses/` and its name in `ratify.sections.ObjectiveName`. Left out: data, models, steps (`preference`).

Shapes: N completions, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from ratify.sections import ObjectiveName, PreferenceSection
from training.losses.absolute import apo_down, apo_zero, kto, orpo
from training.losses.preference import (
    conservative_dpo,
    dpo,
    hinge,
    implicit_reward,
    ipo,
    log_offset,
    odpo,
    robust_dpo,
    simpo,
)


class Completions(NamedTuple):
    """What the policy says of a batch's completions."""

    policy_N: Tensor
    """Summed log-probability, nats."""
    reference_N: Tensor
    count_N: Tensor
    """Tokens."""

    @property
    def mean(self) -> Tensor:
        """The policy's mean log-probability per token, nats."""
        return self.policy_N / self.count_N


class Sides(NamedTuple):
    """What a loss may look at: both sides of P pairs and their labels."""

    chosen_P: Tensor
    """Rewards, by the objective's own `reward`."""
    rejected_P: Tensor
    probability_P: Tensor
    margin_P: Tensor
    """The labels' margins; 0 where the objective did not ask for them."""
    baseline: float
    """KTO's z₀ in nats; 0 for the others."""


class PreferenceLoss(NamedTuple):
    """One objective of the family."""

    reward: Callable[[Completions, float], Tensor]
    """Rewards (N,) from log-probabilities and β; what accuracy and margin are measured on."""
    loss: Callable[[Sides, PreferenceSection], Tensor]
    """Losses (P,)."""


def _ratio(completions: Completions, beta: float) -> Tensor:
    return implicit_reward(completions.policy_N, completions.reference_N, beta)


def _mean_ratio(completions: Completions, beta: float) -> Tensor:
    return _ratio(completions, beta) / completions.count_N


def _mean_logprob(completions: Completions, beta: float) -> Tensor:
    return beta * completions.mean


def _plain_mean_logprob(completions: Completions, beta: float) -> Tensor:  # noqa: ARG001
    return completions.mean


def _kto(sides: Sides, section: PreferenceSection) -> Tensor:
    return kto(
        *sides[:3],
        section.beta * sides.baseline,
        desirable_weight=section.knob("desirable_weight"),
        undesirable_weight=section.knob("undesirable_weight"),
    )


OBJECTIVES: Mapping[ObjectiveName, PreferenceLoss] = {
    "dpo": PreferenceLoss(_ratio, lambda s, _: dpo(*s[:3])),
    "cdpo": PreferenceLoss(_ratio, lambda s, k: conservative_dpo(*s[:3], k.knob("label_smoothing"))),
    "robust": PreferenceLoss(_ratio, lambda s, k: robust_dpo(*s[:3], k.knob("label_smoothing"))),
    "ipo_sum": PreferenceLoss(_ratio, lambda s, k: ipo(*s[:3], k.beta)),
    "ipo_mean": PreferenceLoss(_mean_ratio, lambda s, k: ipo(*s[:3], k.beta)),
    "odpo": PreferenceLoss(_ratio, lambda s, k: odpo(*s[:3], log_offset(s.margin_P, k.knob("offset_scale")))),
    "hinge": PreferenceLoss(_ratio, lambda s, _: hinge(*s[:3])),
    "simpo": PreferenceLoss(_mean_logprob, lambda s, k: simpo(*s[:3], k.knob("target_margin"))),
    "kto": PreferenceLoss(_ratio, _kto),
    "apo_zero": PreferenceLoss(_ratio, lambda s, _: apo_zero(*s[:3])),
    "apo_down": PreferenceLoss(_ratio, lambda s, _: apo_down(*s[:3])),
    "orpo": PreferenceLoss(_plain_mean_logprob, lambda s, k: orpo(*s[:3], k.beta)),
}
