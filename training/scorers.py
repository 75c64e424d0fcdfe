"""Modules whose forward is a batch of completions to log-probabilities or rewards.

They wrap a Hugging Face model so that everything computed, head included, happens inside one `forward`: that is where
accelerate hooks in (autocast, gradient synchronisation). Left out: losses, and where models come from (`models`).
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from ratify.errors import TrainingError
from training.logprobs import CompletionLogprobs, completion_logprobs
from training.tree import TokenBatch
from training.tree_attention import ATTENTION, attention_of, backbone_of, tree_pass

OFFSET = "reward_offset"
"""Key in a reward model's configuration: what is taken off the head's value; the head itself has no bias."""


class PolicyScorer(nn.Module):
    """A causal language model that gives log-probabilities of completions."""

    def __init__(self, model: PreTrainedModel, temperature: float = 1.0, *, entropy: bool = False) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.entropy = entropy

    def forward(self, batch: TokenBatch) -> CompletionLogprobs:
        """Log-probabilities at the sampling temperature, (M,) and (N,) nats."""
        hidden_BTH = hidden_states(self.model, batch, batch.source_M)
        return completion_logprobs(hidden_BTH, self.logits, batch, self.temperature, entropy=self.entropy)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head and what some families do to its output. (…, H) → (…, V)."""
        config = self.model.config
        logits = cast(Tensor, self.model.get_output_embeddings()(hidden))
        if scale := getattr(config, "logit_scale", None):  # Cohere
            logits = logits * scale
        if scaling := getattr(config, "logits_scaling", None):  # Granite
            logits = logits / scaling
        if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
            logits = (logits / cap).tanh() * cap
        return logits


class RewardScorer(nn.Module):
    """A sequence-classification model with one label that gives the reward of completions."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TokenBatch) -> Tensor:
        """The head's value at each completion's last token, (N,)."""
        hidden_NH = hidden_states(self.model, batch, batch.last_N).flatten(0, 1).index_select(0, batch.last_N)
        return scalar(self.model, hidden_NH)


class ValueScorer(nn.Module):
    """A sequence-classification model with one label as a critic: the value before each completion token."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TokenBatch) -> Tensor:
        """V(prompt and the tokens before) for each completion token, (M,); the first ones are V(prompt)."""
        hidden_MH = hidden_states(self.model, batch, batch.source_M).flatten(0, 1).index_select(0, batch.source_M)
        return scalar(self.model, hidden_MH)


def scalar(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The head's value in float32, less the constant that normalisation found. (…, H) → (…)."""
    # The sum over one number is that number; a view of the output is what shards warn of.
    value = cast(Tensor, cast(nn.Linear, model.score)(hidden)).float().sum(-1)
    offset = getattr(model.config, OFFSET, None)
    return value - offset if offset else value


def hidden_states(model: PreTrainedModel, batch: TokenBatch, rows: Tensor | None = None) -> Tensor:
    """The backbone's last hidden states, (B, T, H).

    A mask of our own goes in as booleans to SDPA and as an additive term to eager attention, which knows no other.

    Args:
        model: whose backbone is computed.
        batch: what is computed.
        rows: places in B·T that are read, None for all; at other places there need be no hidden states.
    """
    mask = batch.attention_mask
    if mask.ndim == 4 and model.config._attn_implementation == "eager":
        mask = (~mask).to(model.dtype).masked_fill_(~mask, float("-inf"))
    inputs: dict[str, Any] = {"input_ids": batch.input_ids_BT, "attention_mask": mask, "use_cache": False}
    if batch.sizes:
        if attention_of(model) != ATTENTION:
            # It would take the placeholder for a mask that hides nothing.
            raise TrainingError("a model was given packed trees that `choose_layout` has not prepared for them")
        inputs[ATTENTION] = tree_pass(batch.sizes, rows, mask.device)
    if batch.attention_mask.ndim == 4:
        # Right-padded rows have the positions that models count by themselves, and some take none from outside.
        inputs["position_ids"] = batch.position_ids_BT
    return cast(Tensor, backbone_of(model)(**inputs).last_hidden_state)
