"""The one log-probability function: completion positions only, in float32, without the logits of the prompt.

Hidden states are selected first and projected afterwards, in chunks that are recomputed in the backward pass when the
vocabulary is large, so that memory is a chunk's logits and not a batch's. Left out: fused kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from training.tree import TokenBatch

CHUNK_LOGITS = 2**25
"""Logits computed at once: 128 MiB in float32."""

Head = Callable[[Tensor], Tensor]
"""Hidden states (M, H) to logits (M, V)."""


class CompletionLogprobs(NamedTuple):
    """Log-probabilities of the completions of a batch, in nats."""

    token_M: Tensor
    """Of each completion token."""
    sum_N: Tensor
    """Of each whole completion."""
    count_N: Tensor
    """Tokens of each completion."""
    entropy_M: Tensor | None = None
    """Entropy in nats of the distribution that each token was drawn from, with gradient; None unless asked for."""


def completion_logprobs(
    hidden_BTH: Tensor,
    head: Head,
    batch: TokenBatch,
    temperature: float = 1.0,
    chunk_logits: int = CHUNK_LOGITS,
    *,
    entropy: bool = False,
) -> CompletionLogprobs:
    """Log-probabilities of every completion token and completion under softmax(logits / temperature).

    Args:
        hidden_BTH: the model's last hidden states, (B, T, H).
        head: the projection to the vocabulary with whatever the model does to its logits.
        batch: where the completions lie.
        temperature: of the sampler, so that the probabilities are those that it sampled from.
        chunk_logits: how many logits may exist at once.
        entropy: also compute the entropy at each token, which projects a second time.
    """
    hidden_MH = hidden_BTH.flatten(0, 1).index_select(0, batch.source_M)
    token_M = token_logprobs(hidden_MH, batch.target_M, head, temperature, chunk_logits)
    completions = len(batch.last_N)
    return CompletionLogprobs(
        token_M=token_M,
        sum_N=token_M.new_zeros(completions).index_add(0, batch.owner_M, token_M),
        count_N=torch.bincount(batch.owner_M, minlength=completions),
        entropy_M=token_entropy(hidden_MH, head, temperature, chunk_logits) if entropy else None,
    )


def token_logprobs(
    hidden_MH: Tensor, target_M: Tensor, head: Head, temperature: float = 1.0, chunk_logits: int = CHUNK_LOGITS
) -> Tensor:
    """Log-probability of each target token given its hidden state: (M, H), (M,) → (M,) in float32."""

    def project(hidden: Tensor, target: Tensor) -> Tensor:
        logits = head(hidden).float()
        if temperature != 1.0:
            logits = logits / temperature
        # Negative cross-entropy is the log-softmax at the target, without a second (M, V) tensor.
        return -cross_entropy(logits, target, reduction="none")

    size = max(1, chunk_logits // _vocabulary(head, hidden_MH))
    if size >= len(target_M):
        return project(hidden_MH, target_M)
    chunks = zip(torch.split(hidden_MH, size), torch.split(target_M, size), strict=True)
    return torch.cat([checkpoint(project, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


def token_entropy(hidden_MH: Tensor, head: Head, temperature: float = 1.0, chunk_logits: int = CHUNK_LOGITS) -> Tensor:
    """Entropy −Σ p·log p in nats of softmax(logits / temperature) for each hidden state: (M, H) → (M,) in float32."""

    def project(hidden: Tensor) -> Tensor:
        logprob_MV = (head(hidden).float() / temperature).log_softmax(-1)
        return -(logprob_MV.exp() * logprob_MV).sum(-1)

    size = max(1, chunk_logits // _vocabulary(head, hidden_MH))
    chunks = torch.split(hidden_MH, size)
    return torch.cat([checkpoint(project, chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


def _vocabulary(head: Head, hidden_MH: Tensor) -> int:
    """Width of the head's logits, from a projection of one state."""
    with torch.no_grad():
        return int(head(hidden_MH[:1]).shape[-1])
