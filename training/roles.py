"""The models of a policy gradient, by what they do: policy, reference, critic, reward models.

`WholeModels` loads each from its folder. `SharedBase` has one frozen base and an adapter for each (`adapters`): the
reference is the base, reward models that were trained as adapters on it are put on it again, and so PPO's four models
take the memory of one. Left out: rewards that are no models.
"""

from __future__ import annotations

import logging
from typing import Protocol, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from ratify.errors import InputError
from ratify.lora_section import LoraSection
from training.adapters import adapted, adapter_beside, load_scalar_adapter, scalar_view
from training.encoding import Encoder
from training.models import load_policy, load_reward_model, reward_model_from

logger = logging.getLogger(__name__)


class Roles(Protocol):
    """Gives each role its model."""

    policy: PreTrainedModel
    """What is trained."""
    reference: PreTrainedModel
    """Frozen; what the policy was before."""

    rewards: dict[str, PreTrainedModel]
    """Reward models by folder, as far as they are loaded."""

    def reward(self, folder: str) -> PreTrainedModel:
        """A frozen reward model, loaded once."""

    def critic(self, reward_model: str | None) -> PreTrainedModel:
        """What a critic starts as: a reward model, or the policy with a head of zeros (arXiv 1909.08593's code)."""

    def can_start_critic(self, reward_model: str) -> bool:
        """Whether a critic can start as this reward model."""


class WholeModels:
    """Each role has all weights to itself."""

    def __init__(self, model: str, encoder: Encoder, seed: int) -> None:
        self.model, self.encoder, self.seed = model, encoder, seed
        self.policy = load_policy(model)
        self.reference = load_policy(model)
        self.rewards: dict[str, PreTrainedModel] = {}

    def reward(self, folder: str) -> PreTrainedModel:
        """From its folder."""
        if folder not in self.rewards:
            self.rewards[folder] = load_reward_model(folder).requires_grad_(False)
        return self.rewards[folder]

    def critic(self, reward_model: str | None) -> PreTrainedModel:
        """All of its weights are trained."""
        if reward_model is not None:
            return load_reward_model(reward_model)
        return _silent(reward_model_from(self.model, self.encoder, self.seed))

    def can_start_critic(self, reward_model: str) -> bool:  # noqa: ARG002
        """Any can."""
        return True


class SharedBase:
    """One base in memory, and an adapter for each role."""

    def __init__(self, model: str, encoder: Encoder, seed: int, lora: LoraSection) -> None:
        self.model, self.seed, self.lora = model, seed, lora
        self.reference = load_policy(model)
        self.policy = adapted(self.reference, lora, "policy", seed)
        self.rewards: dict[str, PreTrainedModel] = {}
        self._scalar = scalar_view(self.reference, model, encoder, seed)

    def reward(self, folder: str) -> PreTrainedModel:
        """The adapter beside the folder if it belongs to this base, else a model with all weights to itself."""
        if folder not in self.rewards:
            self.rewards[folder] = self._reward(folder).requires_grad_(False)
        return self.rewards[folder]

    def _reward(self, folder: str) -> PreTrainedModel:
        adapter = adapter_beside(folder, self.model)
        if adapter is None:
            logger.warning("lora: reward model %s has no adapter on %s and takes memory of its own", folder, self.model)
            return load_reward_model(folder)
        return load_scalar_adapter(self._scalar, adapter, "reward")

    def critic(self, reward_model: str | None) -> PreTrainedModel:
        """An adapter and a head: fresh ones, or the reward model's own.

        Raises:
            InputError: the reward model is no adapter on this base.
        """
        if reward_model is None:
            return _silent(adapted(self._scalar, self.lora, "value", self.seed))
        adapter = adapter_beside(reward_model, self.model)
        if adapter is None:
            raise InputError(
                f"policy_gradient.critic_from = 'reward_model' with lora needs a reward model that is an adapter on "
                f"{self.model}, and {reward_model} is none: train it with reward_model.lora, or set critic_from = "
                "'policy'"
            )
        return load_scalar_adapter(self._scalar, adapter, "value")

    def can_start_critic(self, reward_model: str) -> bool:
        """Only an adapter on this base can."""
        return adapter_beside(reward_model, self.model) is not None


def roles_for(model: str, encoder: Encoder, seed: int, lora: LoraSection | None) -> Roles:
    """The models of a task that starts from the policy `model`."""
    return WholeModels(model, encoder, seed) if lora is None else SharedBase(model, encoder, seed, lora)


def _silent(critic: PreTrainedModel) -> PreTrainedModel:
    with torch.no_grad():
        cast(nn.Linear, critic.score).weight.zero_()
    return critic
