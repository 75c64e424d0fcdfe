"""Small constitutions, prompts and completions for the judges' tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from constitutions.load import parse_constitution
from constitutions.schema import Constitution
from judges.questions import Pair, Questionnaire, write_questions
from ratify.types import Completion, Message, Prompt


def constitution(*principles: str, more: str = "") -> Constitution:
    """A constitution from flow-style principles such as `id: p, weight: 2`; a text is added."""
    lines = [
        f"  - {{{fields}{'' if 'text:' in fields else ', text: The reply is fine ' + str(number)}}}"
        for number, fields in enumerate(principles)
    ]
    head = f"schema: constitution/v1\nid: x\nversion: 1.0.0\ntiers: [high, low]\n{more}\nprinciples:\n"
    return parse_constitution(head + "\n".join(lines) + "\n", Path("test.yaml"))


def prompt(name: str = "p", text: str = "How are you?", tags: tuple[str, ...] = ()) -> Prompt:
    return Prompt(id=name, messages=(Message(role="user", content=text),), tags=tags)


def completion(text: str, name: str, prompt_id: str = "p") -> Completion:
    return Completion(
        id=name, prompt_id=prompt_id, text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, seed=0
    )


def pair(a: str = "Good.", b: str = "Bad.", prompt_id: str = "p") -> Pair:
    return completion(a, f"{prompt_id}/a", prompt_id), completion(b, f"{prompt_id}/b", prompt_id)


def many(count: int) -> tuple[dict[str, Prompt], list[Pair]]:
    """`count` prompts, each with one pair."""
    names = [f"p{number}" for number in range(count)]
    prompts = {name: prompt(name, f"Question {name}?") for name in names}
    return prompts, [pair(f"Yes to {name}.", f"No to {name}.", name) for name in names]


def asked(judge: Any, rules: Constitution, prompts: dict[str, Prompt], pairs: list[Pair]) -> Questionnaire:
    return write_questions(prompts, pairs, rules.active, judge)
