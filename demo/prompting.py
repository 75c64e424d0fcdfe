"""How the demo judge is asked: the judge room's prompt templates, rendered exactly as the pipeline renders them.

The templates are read from `judges/prompts/` as files, because a judge is only as good as the match between what it
was trained on and what it is served.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from ratify.templates import conversation_text, fill, load_template
from ratify.types import Message

PROMPT_FOLDER = Path(__file__).resolve().parents[1] / "judges" / "prompts"
ANSWERS = ("Yes", "No", "A", "B")

FIXED_TEXT = (
    "Conversation:\n",
    "\n\nReply:\n",
    "\n\nReply A:\n",
    "\n\nReply B:\n",
    "\n\nPrinciple: ",
    "\nDoes the reply follow the principle? Answer Yes or No.",
    "\nWhich reply follows the principle better? Answer A or B.",
)
"""The parts of the templates that never change; the tokenizer keeps each as one piece."""


@cache
def template(protocol: Literal["pointwise", "pairwise"]) -> str:
    """The prompt template of a protocol."""
    return load_template(PROMPT_FOLDER / f"{protocol}.txt")


def pointwise(prompt: str, reply: str, principle: str) -> str:
    """The judge's user message about one reply."""
    fields = {"conversation": _conversation(prompt), "completion": reply, "principle": principle}
    return fill(template("pointwise"), fields)


def pairwise(prompt: str, reply_a: str, reply_b: str, principle: str) -> str:
    """The judge's user message about two replies in the order shown."""
    fields = {"completion_a": reply_a, "completion_b": reply_b, "principle": principle}
    return fill(template("pairwise"), {"conversation": _conversation(prompt), **fields})


def _conversation(prompt: str) -> str:
    return conversation_text([Message(role="user", content=prompt)])
