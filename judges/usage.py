"""How much of a judge's server a question may use at most: requests and tokens, without knowing its tokenizer.

A tokenizer that falls back to bytes never makes more tokens of a text than the text has bytes, so bytes bound tokens
from above; chat templates add a little of their own (`TEMPLATE_TOKENS`). The bound is about four times too high for
English text. It is for reservations, which are corrected once the answer is there; estimates take the mean of what was
observed.
"""

from __future__ import annotations

from typing import NamedTuple

from judges.questions import Question
from judges.rendering import principle_text
from ratify.templates import conversation_text

TEMPLATE_TOKENS = 128
"""What a chat template may add to one request: special tokens, roles, a default system message."""


class Usage(NamedTuple):
    """What was used, or may be."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(*(one + more for one, more in zip(self, other, strict=True)))

    def minus(self, other: Usage) -> Usage:
        """What is left without the other."""
        return Usage(*(one - less for one, less in zip(self, other, strict=True)))

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens


class CallShape(NamedTuple):
    """How a judge asks."""

    requests: int = 1
    """Requests that one question may take, those that are repeated after an unreadable answer included."""
    text_tokens: int = 1
    """Longest answer of one request; a later request of the same question may carry it in its prompt."""
    template_bytes: int = 0
    """Length of the prompt template."""


def most_usage(question: Question, shape: CallShape) -> Usage:
    """An upper bound on what one question uses."""
    shown = question.listed or filter(None, (question.first, question.second))
    texts = [principle_text(question.principle), conversation_text(question.prompt.messages)]
    texts += [completion.text for completion in shown]
    said = sum(len(text.encode()) for text in texts)
    prompt = said + shape.template_bytes + TEMPLATE_TOKENS + (shape.text_tokens if shape.requests > 1 else 0)
    return Usage(shape.requests, shape.requests * prompt, shape.requests * shape.text_tokens)
