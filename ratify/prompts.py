"""Prompt files: JSON lines with `messages` or `prompt`, optional `id` and `tags`. Faults name the file and the line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ratify.canonical import digest
from ratify.errors import InputError
from ratify.prompt_selection import draw_prompts
from ratify.types import Message, Prompt

_KEYS = {"id", "messages", "prompt", "tags"}
_HALF = re.compile("[\ud800-\udfff]")
"""An escape such as \\ud83d without its other half: JSON allows it, UTF-8 does not."""


def load_prompts(path: Path, limit: int | None = None, seed: int = 0) -> list[Prompt]:
    """Read a prompt file; with `limit`, draw that many by `seed` and keep the file's order.

    Raises:
        InputError: missing or empty file, a line that is not JSON, a field that is wrong, an id that occurs twice.
    """
    return draw_prompts(list(_read(path)), limit, seed)


def _read(path: Path) -> Iterator[Prompt]:
    """Every prompt; no id occurs twice."""
    seen: dict[str, int] = {}
    for _, prompt in prompts_with_places(path):
        if prompt.id in seen:
            raise InputError(
                f"{path}: prompt {len(seen) + 1} repeats the id (or text) {prompt.id!r} of prompt {seen[prompt.id]}"
            )
        seen[prompt.id] = len(seen) + 1
        yield prompt


def prompts_with_places(path: Path) -> Iterator[tuple[int, Prompt]]:
    """Every prompt with the place in bytes where it begins.

    Raises:
        InputError: as `load_prompts`, except that an id may occur twice.
    """
    empty = True
    for number, offset, line in numbered_lines(path, "prompt file"):
        yield offset, parse_prompt(path, number, line)
        empty = False
    if empty:
        raise InputError(f'prompt file {path} is empty; give it one JSON object per line with a "prompt" or "messages"')


def numbered_lines(path: Path, what: str) -> Iterator[tuple[int, int, str]]:
    """The lines that are not blank: their numbers from 1, where they begin in bytes, their texts.

    Raises:
        InputError: the file, `what` it is named first, is missing or is not UTF-8 text.
    """
    offset = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.decode()
                if text.strip():
                    yield number, offset, text
                offset += len(line)
    except FileNotFoundError:
        raise InputError(f"{what} {path} does not exist") from None
    except UnicodeDecodeError as error:
        at = offset + error.start
        raise InputError(f"{what} {path} is not UTF-8 text (byte {at}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}") from None


def parse_prompt(path: Path, number: int, line: str) -> Prompt:
    """A line as a prompt.

    Raises:
        InputError: with file and line.
    """
    row = parse_object(path, number, line, _KEYS, 'a prompt is a JSON object, such as {"prompt": "Hello"}')
    messages = parse_messages(path, number, row)
    return Prompt(
        id=str(row.get("id") or digest([message.model_dump() for message in messages])[:16]),
        messages=messages,
        tags=parse_tags(path, number, row.get("tags", ())),
    )


def parse_object(path: Path, number: int, line: str, known: Set[str] | None, form: str) -> dict[str, Any]:
    """A line as an object, with known fields only where any are named; `form` says what a line should be.

    Raises:
        InputError: with file and line.
    """
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError.at(path, number, f"not valid JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise InputError.at(path, number, form)
    if "\\ud" in line.lower() and _HALF.search(json.dumps(row, ensure_ascii=False)):
        raise InputError.at(path, number, "holds half of a surrogate pair, which is no character; write the text anew")
    unknown = sorted(set(row) - known) if known is not None else []
    if known is not None and unknown:
        raise InputError.at(path, number, f"unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return row


def parse_messages(path: Path, number: int, row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The conversation of a row's `prompt` or `messages`, which ends with the user.

    Raises:
        InputError: with file and line.
    """
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


def parse_tags(path: Path, number: int, tags: Any) -> tuple[str, ...]:
    """A row's tags.

    Raises:
        InputError: with file and line.
    """
    if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
        raise InputError.at(path, number, '"tags" is a list of texts')
    return tuple(tags)
