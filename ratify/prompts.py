"""Prompt files: JSON lines with `messages` or `prompt`, optional `id` and `tags`. Faults name the file and the line."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ratify.canonical import digest
from ratify.errors import InputError
from ratify.types import Message, Prompt

_KEYS = {"id", "messages", "prompt", "tags"}


def load_prompts(path: Path, limit: int | None = None, seed: int = 0) -> list[Prompt]:
    """Read a prompt file; with `limit`, draw that many by `seed` and keep the file's order.

    Raises:
        InputError: missing or empty file, a line that is not JSON, a field that is wrong, an id that occurs twice.
    """
    lines = _read_lines(path)
    prompts = [_parse(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise InputError(f'prompt file {path} is empty; give it one JSON object per line with a "prompt" or "messages"')
    _refuse_duplicates(path, prompts)
    if limit is None or limit >= len(prompts):
        return prompts
    chosen = sorted(random.Random(seed).sample(range(len(prompts)), limit))
    return [prompts[index] for index in chosen]


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"prompt file {path} does not exist") from None
    except UnicodeDecodeError as error:
        raise InputError(f"prompt file {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"prompt file {path} cannot be read: {error.strerror}") from None


def _parse(path: Path, number: int, line: str) -> Prompt:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError.at(path, number, f"not valid JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise InputError.at(path, number, 'a prompt is a JSON object, such as {"prompt": "Hello"}')
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise InputError.at(path, number, f"unknown field {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    messages = _messages(path, number, row)
    return Prompt(
        id=str(row.get("id") or digest([message.model_dump() for message in messages])[:16]),
        messages=messages,
        tags=_tags(path, number, row.get("tags", ())),
    )


def _messages(path: Path, number: int, row: dict[str, Any]) -> tuple[Message, ...]:
    if ("messages" in row) == ("prompt" in row):
        raise InputError.at(path, number, 'give either "prompt" (a text) or "messages" (a list), not both or neither')
    turns = row["messages"] if "messages" in row else [{"role": "user", "content": row["prompt"]}]
    try:
        messages = tuple(Message.model_validate(turn) for turn in turns)
    except (ValidationError, TypeError):
        raise InputError.at(
            path, number, "each message needs a role (system, user, assistant) and a content text"
        ) from None
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        raise InputError.at(path, number, "the last message must be a user's and must not be empty")
    return messages


def _tags(path: Path, number: int, tags: Any) -> tuple[str, ...]:
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise InputError.at(path, number, '"tags" is a list of texts')
    return tuple(tags)


def _refuse_duplicates(path: Path, prompts: list[Prompt]) -> None:
    seen: dict[str, int] = {}
    for number, prompt in enumerate(prompts, 1):
        if prompt.id in seen:
            raise InputError(
                f"{path}: prompt {number} repeats the id (or text) {prompt.id!r} of prompt {seen[prompt.id]}"
            )
        seen[prompt.id] = number
