"""How a judge's answer is led on after something it said: by continuing its own message, or by a second user turn.

vLLM continues the last message where it is told so; most hosted servers cannot, and there a second turn asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ratify.sections import JudgeSection
from ratify.types import Message

CONTINUE: Mapping[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
"""For the body of a request whose last message is to be continued, as vLLM names it."""


def continues(section: JudgeSection) -> bool:
    """Whether this judge's server is told to continue; unless set, a server that we start is."""
    if section.answer_turn is None:
        return section.base_url is None
    return section.answer_turn == "prefill"


def continued(messages: Sequence[Message], begun: str) -> tuple[Message, ...]:
    """The conversation with the beginning of the answer."""
    return (*messages, Message(role="assistant", content=begun))
