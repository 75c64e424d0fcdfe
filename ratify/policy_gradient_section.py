"""The section `[policy_gradient]`: algorithms that sample from the policy while they train it, and their rewards.

Settings that an algorithm does not have are refused when the file is loaded; None means the algorithm's own default,
which `ALGORITHMS` names. Left out: where prompts and models lie (the task's specification).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from ratify.sections import OptimiserSection, Section

AlgorithmName = Literal["ppo", "grpo", "dr_grpo", "dapo", "rloo", "reinforce", "online_dpo"]
Aggregation = Literal["token_mean", "sequence_mean", "sequence_sum", "constant"]
KLPlace = Literal["reward", "loss"]


class Algorithm(NamedTuple):
    """What the name of an algorithm stands for."""

    advantage: str
    """Entry of training.advantages."""
    aggregation: Aggregation
    """`token_mean`: every token of the step counts once; `sequence_mean`: every completion once; `sequence_sum`: the
    sum over a completion's tokens, mean over completions; `constant`: that divided by max_tokens."""
    kl_in: KLPlace
    """Whether the KL penalty is part of each token's reward or a term of the loss."""
    whiten: bool
    """Advantages to mean 0 and standard deviation 1 over the rollout batch."""
    clip_high: float
    epochs_per_batch: int
    kl_coefficient: float


ALGORITHMS: dict[AlgorithmName, Algorithm] = {
    "ppo": Algorithm("gae", "token_mean", "reward", True, 0.2, 4, 0.05),
    "grpo": Algorithm("group_standardised", "sequence_mean", "loss", False, 0.2, 1, 0.04),
    "dr_grpo": Algorithm("group_mean", "constant", "loss", False, 0.2, 1, 0.0),
    "dapo": Algorithm("group_standardised", "token_mean", "loss", False, 0.28, 1, 0.0),
    "rloo": Algorithm("rloo", "sequence_sum", "reward", False, 0.2, 1, 0.05),
    "reinforce": Algorithm("batch_mean", "sequence_sum", "reward", False, 0.2, 1, 0.05),
    "online_dpo": Algorithm("", "sequence_mean", "loss", False, 0.2, 1, 0.1),
}
_OWNERS: dict[str, tuple[AlgorithmName, ...]] = {
    "gae_lambda": ("ppo",),
    "value_clip": ("ppo",),
    "critic_from": ("ppo",),
    "critic_learning_rate": ("ppo",),
    "critic_warmup_steps": ("ppo",),
    "moving_baseline": ("reinforce",),
    "soft_labels": ("online_dpo",),
}


class RewardSpec(Section):
    """What every source of reward has."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Name in the metrics."""
    weight: float = 1.0
    """Its factor in the weighted sum."""
    at_least: float | None = None
    """Makes it a constraint: the mean of this source should not fall below; a dual variable weighs it."""


class ModelRewardSpec(RewardSpec):
    """Reward models: one, or an ensemble."""

    kind: Literal["model"] = "model"
    name: str = Field(default="reward_model", pattern=r"^[a-z][a-z0-9_]*$")
    models: tuple[str, ...] = ()
    """Folders; none means the reward model that the task was given."""
    combine: Literal["mean", "min", "variance_penalised"] = "mean"
    """How an ensemble becomes one number; `variance_penalised` is mean − penalty·variance."""
    penalty: float = Field(default=1.0, ge=0)


class ExactAnswerSpec(RewardSpec):
    """1 for the right answer; abstaining lies between right and wrong."""

    kind: Literal["exact_answer"] = "exact_answer"
    name: str = Field(default="exact_answer", pattern=r"^[a-z][a-z0-9_]*$")
    pattern: str = r"(-?\d+(?:\.\d+)?)(?!.*\d)"
    """Regular expression whose first group is the answer; the default takes the last number."""
    abstain_pattern: str | None = None
    """Regular expression of replies that decline to answer."""
    right: float = 1.0
    abstain: float = 0.3
    wrong: float = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> ExactAnswerSpec:
        if not self.wrong < self.abstain < self.right:
            raise ValueError("the rewards must be ordered wrong < abstain < right, so that a guess is not the best bet")
        return self

    @field_validator("pattern", "abstain_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _regular(pattern)


class RegexSpec(RewardSpec):
    """1 where a pattern is found (or is absent), else 0."""

    kind: Literal["regex"] = "regex"
    pattern: str
    present: bool = True

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _regular(pattern)


class LengthSpec(RewardSpec):
    """1 for completions within bounds, falling linearly to 0 over `slack` tokens outside."""

    kind: Literal["length"] = "length"
    name: str = Field(default="length", pattern=r"^[a-z][a-z0-9_]*$")
    min_tokens: int = Field(default=1, ge=1)
    max_tokens: int = Field(gt=0)
    slack: int = Field(default=0, ge=0)


class ChecksSpec(RewardSpec):
    """The constitution's `checks`, which ask no judge: the share of principles, by weight, whose checks are all met.

    Principles without checks, or that are not for the prompt, count nothing; where none is left there is no score.
    """

    kind: Literal["checks"] = "checks"
    name: str = Field(default="checks", pattern=r"^[a-z][a-z0-9_]*$")
    principles: tuple[str, ...] = ()
    """Ids of the principles that are looked at; none means all that have checks."""


class JudgeSpec(RewardSpec):
    """`[judge]` itself, by the constitution (direct RLAIF, arXiv 2309.00267)."""

    kind: Literal["judge"] = "judge"
    name: str = Field(default="judge", pattern=r"^[a-z][a-z0-9_]*$")
    score: Literal["log_odds", "probability", "win_rate"] = "log_odds"
    """`log_odds`: the verdicts on the completion, added up over the principles as a label adds them up; `probability`:
    σ of that, between 0 and 1; `win_rate`: the mean probability to beat the prompt's other completions."""
    principles: tuple[str, ...] = ()
    """Ids of the principles that are asked about; none means all. One reward for each objective makes a mixture."""

    @property
    def compares(self) -> bool:
        """Whether it is asked about pairs."""
        return self.score == "win_rate"


AnyReward = Annotated[
    ModelRewardSpec | ExactAnswerSpec | RegexSpec | LengthSpec | ChecksSpec | JudgeSpec, Field(discriminator="kind")
]
AskedReward = ChecksSpec | JudgeSpec


class PolicyGradientSection(OptimiserSection):
    """Policy gradients: sample, reward, learn. One step is one batch of `batch_prompts` prompts sampled anew."""

    enabled: bool = False
    """Train such a policy beside the one of `[preference]`."""
    learning_rate: float = Field(default=3e-6, gt=0)
    algorithm: AlgorithmName = "ppo"
    completions_per_prompt: int = Field(default=4, gt=0)
    """K, sampled for each prompt."""
    max_tokens: int = Field(default=256, gt=0)
    """Longest completion."""
    sampler: Literal["transformers", "vllm"] = Field(default="transformers", exclude_if=lambda name: name != "vllm")
    """Who samples: transformers in the training process, or a fresh vLLM server for every batch's weights, with the
    settings of `[policy.engine]`; the faster one where a batch takes longer to sample than a server to start."""
    epochs_per_batch: int | None = Field(default=None, gt=0)
    """Passes over each rollout batch; None: 4 for ppo, 1 for the others."""
    minibatches: int = Field(default=1, gt=0)
    """Optimiser steps in each of those passes; prompts are not divided."""
    rewards: tuple[AnyReward, ...] = ()
    """Sources; none means the reward model that the task was given."""
    combine_rewards: Literal["sum", "worst"] = "sum"
    """Weighted sum, or the smallest weighted source."""
    dual_learning_rate: float = Field(default=0.1, gt=0)
    """How fast the dual variables of constraints (`at_least`) move."""
    reward_normalisation: Literal["none", "running"] = "none"
    """`running` brings scores to mean 0 and standard deviation 1 over everything sampled so far."""
    reward_clip: float | None = Field(default=None, gt=0)
    """Scores are clipped to ± this, after normalisation."""
    missing_end_penalty: float = Field(default=0.0, ge=0)
    """Subtracted from the score of completions that were cut off at max_tokens."""
    kl_coefficient: float | None = Field(default=None, ge=0)
    """β; None: 0.05 with the penalty in the reward, 0.04 grpo, 0 dr_grpo and dapo, 0.1 online_dpo."""
    kl_in: KLPlace | None = None
    """`reward`: k1 on every token; `loss`: a term; None: the algorithm's own (docs/training.md)."""
    kl_estimator: Literal["k1", "k2", "k3", "k3_plain"] = "k3"
    """Of the term in the loss; all but `k3_plain` have the gradient of KL(π‖π_ref)."""
    kl_target: float | None = Field(default=None, gt=0)
    """Steers β towards this KL, nats per completion; None keeps β."""
    kl_horizon: float = Field(default=10_000.0, gt=0)
    """Completions over which β may change by about a fifth."""
    max_kl: float | None = Field(default=None, gt=0)
    """Stop training when the KL to the reference, measured on fresh samples, exceeds this many nats per completion."""
    max_step_kl: float | None = Field(default=None, gt=0)
    """End the passes over a batch when the policy has moved this far from the sampling one, nats per token."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float | None = Field(default=None, gt=0)
    """None: 0.28 for dapo, 0.2 for the others."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Bounds the loss of negative advantages to this many times their size."""
    importance_cap: float | None = Field(default=2.0, gt=0)
    """Truncates the weights that make up for a sampler whose probabilities are not the trainer's; None: no weights."""
    entropy_weight: float = Field(default=0.0, ge=0)
    aggregation: Aggregation | None = None
    """How tokens are averaged; None: the algorithm's own."""
    whiten: bool | None = None
    """Whiten advantages over the batch; None: ppo only."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: float | None = Field(default=None, ge=0, le=1)
    """ppo: λ; None means 0.95."""
    value_clip: float | None = Field(default=None, gt=0)
    """ppo: range of the value's change within a batch; None means 0.2."""
    critic_from: Literal["reward_model", "policy"] | None = None
    """ppo: what the critic starts from; None takes the reward model if there is exactly one, else the policy."""
    critic_learning_rate: float | None = Field(default=None, gt=0)
    """ppo: None means that of the policy times 3."""
    critic_warmup_steps: int | None = Field(default=None, ge=0)
    """ppo: rollout batches on which only the critic learns; None means 0."""
    moving_baseline: float | None = Field(default=None, gt=0, lt=1)
    """reinforce: decay of an exponentially moving mean return as baseline; None takes the mean of the batch."""
    soft_labels: bool | None = None
    """online_dpo: label the best and worst completion with σ(difference of rewards) instead of 1; None means true."""
    pretraining_data: Path | None = None
    """Completions (`prompt` and `completion`, or `messages`) whose likelihood is kept up meanwhile: PPO-ptx."""
    pretraining_weight: float = Field(default=1.0, gt=0)
    """γ of PPO-ptx: weight of the mean negative log-probability of those tokens."""
    pretraining_prompts: int = Field(default=8, gt=0)
    """How many of its prompts go into each optimiser step."""
    sampling_batch: int = Field(default=256, gt=0)
    """Completions that the built-in sampler generates at once; another number draws other samples."""
    keep_rollouts: bool = Field(default=False, exclude_if=lambda keep: not keep)
    """Keep every completion with its reward and KL in `rollouts/`, for the frontier of reward and KL in the report."""

    @model_validator(mode="after")
    def _knobs_belong(self) -> PolicyGradientSection:
        for name, owners in _OWNERS.items():
            if getattr(self, name) is not None and self.algorithm not in owners:
                choices = " or ".join(f"algorithm = '{owner}'" for owner in owners)
                raise ValueError(f"{name} is set and algorithm is '{self.algorithm}'; remove it or choose {choices}")
        if self.completions_per_prompt < 2 and self.algorithm not in ("ppo", "reinforce"):
            raise ValueError(
                f"algorithm '{self.algorithm}' compares completions of a prompt and completions_per_prompt is 1, "
                "so it would learn nothing; set completions_per_prompt to 2 or more"
            )
        if self.algorithm == "online_dpo" and (self.pretraining_data or not self.beta > 0):
            raise ValueError("algorithm 'online_dpo' needs kl_coefficient above 0 and has no pretraining_data")
        if self.kl_target is not None and not self.beta > 0:
            raise ValueError("kl_target is set and kl_coefficient is 0, which no controller can move; set it above 0")
        if self.max_tokens >= self.max_length:
            raise ValueError(f"max_tokens must be below max_length = {self.max_length}, which counts the prompt too")
        if self.minibatches > self.batch_prompts:
            raise ValueError(f"minibatches must not exceed batch_prompts = {self.batch_prompts}; prompts stay whole")
        if len({reward.name for reward in self.rewards}) < len(self.rewards):
            raise ValueError("two rewards have the same name; give each its own")
        if self.completions_per_prompt < 2 and any(each.kind == "judge" and each.compares for each in self.rewards):
            raise ValueError(
                "a reward's score is 'win_rate', which compares completions of a prompt, and completions_per_prompt "
                "is 1; set it to 2 or more"
            )
        if self.rewards and all(reward.at_least is not None for reward in self.rewards):
            raise ValueError("every reward is a constraint (at_least) and none is left to maximise")
        return self

    @property
    def method(self) -> Algorithm:
        """The algorithm with everything that the section overrides."""
        method = ALGORITHMS[self.algorithm]
        given: dict[str, Any] = {
            "aggregation": self.aggregation,
            "kl_in": self.kl_in,
            "whiten": self.whiten,
            "clip_high": self.clip_high,
            "epochs_per_batch": self.epochs_per_batch,
            "kl_coefficient": self.kl_coefficient,
            "advantage": None if self.moving_baseline is None else "moving_baseline",
        }
        return method._replace(**{name: value for name, value in given.items() if value is not None})

    @property
    def beta(self) -> float:
        """The KL coefficient at the start."""
        return self.method.kl_coefficient

    @property
    def needs_reward_model(self) -> bool:
        """Whether a reward is left to the reward model that the task is given."""
        return not self.rewards or any(reward.kind == "model" and not reward.models for reward in self.rewards)

    @property
    def asked_rewards(self) -> tuple[AskedReward, ...]:
        """The rewards that the process which launches the training answers."""
        return tuple(reward for reward in self.rewards if isinstance(reward, ChecksSpec | JudgeSpec))

    @property
    def judge_rewards(self) -> tuple[JudgeSpec, ...]:
        """Those of them that ask the judge."""
        return tuple(reward for reward in self.rewards if isinstance(reward, JudgeSpec))

    @property
    def uses_critic(self) -> bool:
        """Whether a value model is trained."""
        return self.method.advantage == "gae"


def _regular(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern
