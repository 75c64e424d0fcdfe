"""Tiny parts for rollout tests: a bandit, a policy with a critic, and a loop around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from ratify.policy_gradient_section import PolicyGradientSection
from training.engine import Engine
from training.rewards import FunctionReward, RewardSource, Rollout
from training.rollout_loop import Parts, RolloutLoop
from training.rollouts import PromptItem, TransformersSampler
from training.scorers import PolicyScorer, ValueScorer


def tiny_config(vocabulary: int, width: int = 8, **changes: Any) -> Qwen2Config:
    """One layer, two heads."""
    sizes = {
        "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None, "tie_word_embeddings": False, "initializer_range": 0.3,
    }  # fmt: skip
    return Qwen2Config(**{**sizes, **changes})


def tiny_policy(vocabulary: int, seed: int = 0, **changes: Any) -> Any:
    """A random policy."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(tiny_config(vocabulary, **changes)).eval()


def tiny_critic(vocabulary: int, seed: int = 1) -> Any:
    """A critic whose head is zero."""
    torch.manual_seed(seed)
    critic = Qwen2ForSequenceClassification(tiny_config(vocabulary, num_labels=1)).eval()
    with torch.no_grad():
        critic.score.weight.zero_()
    return critic


def make_loop(
    out: Path,
    section: PolicyGradientSection,
    items: Sequence[PromptItem],
    reward: Callable[[Rollout], float | None] | RewardSource,
    *,
    vocabulary: int,
    stops: Sequence[int] = (),
    seed: int = 3,
    **further: Any,
) -> RolloutLoop:
    """A loop with a random policy of its own; `further` replaces parts."""
    policy, reference = (tiny_policy(vocabulary) for _ in range(2))
    source = FunctionReward("r", reward) if callable(reward) else reward
    engine = Engine(section, seed=seed, out=out, fingerprint="test")
    engine.layout = section.layout
    parts = Parts(
        policy=PolicyScorer(policy, entropy=section.entropy_weight > 0),
        reference=PolicyScorer(reference).requires_grad_(False),
        critic=ValueScorer(tiny_critic(vocabulary)) if section.uses_critic else None,
        sampler=TransformersSampler(policy, stops, max_tokens=section.max_tokens),
        source=source,
        items=items,
        text=lambda tokens: " ".join(map(str, tokens)),
    )
    return RolloutLoop(engine, section, parts._replace(**further))


def first_token_logprobs(scorer: PolicyScorer, prompt: Sequence[int]) -> Tensor:
    """log π of every possible first token, float64."""
    with torch.no_grad():
        return scorer.model(torch.tensor([list(prompt)])).logits[0, -1].double().log_softmax(-1)
