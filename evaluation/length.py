"""How long replies are, and how many were cut off.

Length is measured because judges reward it and because most diversity figures move with it; it does not show collapse
by itself. Words are counted by white space, so that two tokenizers can be compared; tokens are the server's count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evaluation.intervals import STANDARD, Estimate, Resampling, mean, quantile
from ratify.types import Completion

TAIL = 0.95
"""The quantile that is reported as the long end."""


class Lengths(NamedTuple):
    """Length of one policy's replies, each clustered by prompt."""

    words: Estimate
    """Mean words per reply."""
    words_p95: Estimate
    """95th percentile of words per reply."""
    tokens: Estimate
    """Mean tokens per reply."""
    truncated: Estimate
    """Share of replies that ended because the token limit was reached."""


def lengths(completions: Sequence[Completion], how: Resampling = STANDARD) -> Lengths:
    """Length statistics of a policy's replies.

    Raises:
        EvidenceError: when there is no reply.
    """
    prompts = [completion.prompt_id for completion in completions]
    words = [len(completion.text.split()) for completion in completions]
    return Lengths(
        words=mean(words, prompts, how),
        words_p95=quantile(words, prompts, TAIL, how),
        tokens=mean([completion.completion_tokens for completion in completions], prompts, how),
        truncated=mean([completion.finish_reason == "length" for completion in completions], prompts, how, share=True),
    )
