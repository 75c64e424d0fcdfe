"""Preference rows without a `prompt` column: what chosen and rejected have in common at their start is the prompt.

Three public forms: two conversations; two transcripts with `\\n\\nHuman:` and `\\n\\nAssistant:` turns, as Anthropic's
hh-rlhf has them; two plain texts. The prompt ends before the last turn of a conversation and, of plain texts, where
the two part, a space going to the completions (the rule of TRL's `extract_prompt`). Left out: checking rows (`rows`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}

Conversation = list[dict[str, str]]


def with_prompt(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row with its prompt as a column of its own; None when the two sides have no common start to divide at.

    A row that has a prompt, or lacks a side, is given back as it is.
    """
    chosen, rejected = values.get("chosen"), values.get("rejected")
    if values.get("prompt") is not None or not chosen or not rejected:
        return values
    if isinstance(chosen, str) and isinstance(rejected, str):
        turns = transcript(chosen), transcript(rejected)
        if turns[0] is None or turns[1] is None:
            return _plain(values, chosen, rejected)
        chosen, rejected = turns
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        return None
    if len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
        return None
    return {**values, "prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def transcript(text: str) -> Conversation | None:
    """The turns of a Human/Assistant transcript; None where the text does not begin as one."""
    if not _TURN.match(text):
        return None
    _, *parts = _TURN.split(text)
    return [
        {"role": _ROLES[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _plain(values: Mapping[str, Any], chosen: str, rejected: str) -> Mapping[str, Any] | None:
    same = next((at for at, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if same is None:
        same = min(len(chosen), len(rejected))
    same -= same > 0 and chosen[same - 1] == " "
    if not same:
        return None
    return {**values, "prompt": chosen[:same], "chosen": chosen[same:], "rejected": rejected[same:]}
