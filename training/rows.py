"""Read preference rows and completions to score, in TRL's column names, and refuse bad ones with file and row.

Conversational rows hold lists of {role, content}; standard rows hold plain strings; a preference row may lack `prompt`
(`implicit_prompt`). Optional `chosen_finish_reason` / `rejected_finish_reason` / `finish_reason` = "length" mark
completions that were cut off: they get no end-of-turn token, because the policy never wrote one. Left out: tokens
(`encoding`) and grouping (`data`).
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ratify.errors import InputError
from ratify.types import Message
from training.implicit_prompt import with_prompt
from training.spec import data_files

PROMPT_COLUMNS = ("prompt", "prompt_id")
PREFERENCE_COLUMNS = (
    *PROMPT_COLUMNS, "chosen", "rejected", "probability", "margin", "chosen_id", "rejected_id",
    "chosen_finish_reason", "rejected_finish_reason", "weight",
)  # fmt: skip
SCORE_COLUMNS = (*PROMPT_COLUMNS, "completion", "id", "finish_reason", "token_ids")
PROMPT_ONLY_COLUMNS = (*PROMPT_COLUMNS, "id", "answer", "messages")
SUPERVISED_COLUMNS = (*PROMPT_COLUMNS, "completion", "id", "finish_reason", "messages")
ROLES = ("system", "user", "assistant")

Prompt = str | tuple[Message, ...]
"""Plain text, or a conversation that waits for the assistant."""


class Place(NamedTuple):
    """Where a row was read."""

    path: Path
    line: int
    """From 1; for Parquet the row."""


class Reply(NamedTuple):
    """A completion's text."""

    text: str
    id: str | None
    truncated: bool
    """True when it was cut off at the length limit."""


class PreferenceRow(NamedTuple):
    """One checked row of preference data."""

    place: Place
    prompt: Prompt
    prompt_id: str | None
    chosen: Reply
    rejected: Reply
    probability: float
    """P(chosen is better); 1 where the data has none."""
    margin: float | None
    weight: float = 1.0
    """How much the row counts in the mean loss."""


class ScoreRow(NamedTuple):
    """One checked completion to score."""

    place: Place
    prompt: Prompt
    prompt_id: str | None
    completion: Reply
    token_ids: tuple[int, ...] | None
    """The sampled tokens, which go before the text's; None where the data has none."""


def read_preferences(path: Path, refused: list[str] | None = None) -> list[PreferenceRow]:
    """Read and check every preference row of a file or folder.

    Args:
        path: Parquet or JSON lines, or a folder of them.
        refused: takes the fault of every bad row, which is then left out; None refuses the file for one.

    Raises:
        InputError: with file, row and the fault.
    """
    rows = []
    for place, values in _tables(path, PREFERENCE_COLUMNS):
        try:
            rows.append(_preference_row(place, values))
        except InputError as fault:
            if refused is None:
                raise
            refused.append(str(fault))
    return rows or _empty(path)


def read_completions(path: Path) -> list[ScoreRow]:
    """Read and check completions to score: `prompt`, `completion`, optional `id` and `finish_reason`.

    Raises:
        InputError: with file, row and the fault.
    """
    rows = [_score_row(place, values) for place, values in _tables(path, SCORE_COLUMNS)]
    return rows or _empty(path)


class PromptRow(NamedTuple):
    """One checked prompt to sample from."""

    place: Place
    prompt: Prompt
    prompt_id: str | None
    answer: str | None
    """The right answer, where the data has one."""


def read_prompts(path: Path) -> list[PromptRow]:
    """Read and check prompts: `prompt` (or `messages`), optional `prompt_id` (or `id`) and `answer`.

    Raises:
        InputError: with file, row and the fault.
    """
    rows = [_prompt_row(place, values) for place, values in _tables(path, PROMPT_ONLY_COLUMNS)]
    return rows or _empty(path)


def read_supervised(path: Path) -> list[ScoreRow]:
    """Read and check completions to learn: `prompt` and `completion`, or `messages` that end with the assistant.

    Of `messages` the last turn is the completion and everything before it the prompt.

    Raises:
        InputError: with file, row and the fault.
    """
    rows = [_score_row(place, _divided(place, values)) for place, values in _tables(path, SUPERVISED_COLUMNS)]
    return rows or _empty(path)


def fail(place: Place, message: str) -> NoReturn:
    """Refuse a row."""
    raise InputError.at(place.path, place.line, message)


def _empty(path: Path) -> NoReturn:
    raise InputError(f"{path}: the dataset is empty; it needs at least one row")


def _tables(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    for file in data_files(path):
        lines = _parquet(file, columns) if file.suffix == ".parquet" else _json_lines(file)
        for line, values in lines:
            yield Place(file, line), values


def _parquet(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in columns if name in present])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None
    yield from enumerate(table.to_pylist(), start=1)


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        for line, text in enumerate(handle, start=1):
            if not text.strip():
                continue
            try:
                values = json.loads(text)
            except json.JSONDecodeError as error:
                fail(Place(path, line), f"not valid JSON: {error.msg} at column {error.colno}")
            if not isinstance(values, dict):
                fail(Place(path, line), "a row must be a JSON object with the columns prompt, chosen, rejected")
            yield line, values


def _preference_row(place: Place, values: Mapping[str, Any]) -> PreferenceRow:
    divided = with_prompt(values)
    if divided is None:
        fail(place, "the row has no prompt, and chosen and rejected do not differ in their last turn alone")
    values = divided
    prompt = _prompt(place, values)
    chosen, rejected = (_reply(place, values, column) for column in ("chosen", "rejected"))
    if chosen.text == rejected.text:
        fail(place, "chosen equals rejected, so there is nothing to prefer; drop the pair")
    probability = _number(place, values, "probability")
    if probability is not None and not 0 <= probability <= 1:
        fail(place, f"probability is {probability}; it must lie between 0 and 1")
    weight = _number(place, values, "weight")
    if weight is not None and not 0 < weight < math.inf:
        fail(place, f"weight is {weight}; it must be above 0, drop the row instead")
    return PreferenceRow(
        place=place,
        prompt=prompt,
        prompt_id=_text(place, values, "prompt_id"),
        chosen=chosen,
        rejected=rejected,
        probability=1.0 if probability is None else probability,
        margin=_number(place, values, "margin"),
        weight=1.0 if weight is None else weight,
    )


def _score_row(place: Place, values: Mapping[str, Any]) -> ScoreRow:
    reply = _reply(place, values, "completion", id_column="id", reason_column="finish_reason")
    return ScoreRow(place, _prompt(place, values), _text(place, values, "prompt_id"), reply, _token_ids(place, values))


def _prompt_row(place: Place, values: Mapping[str, Any]) -> PromptRow:
    if values.get("prompt") is None and values.get("messages") is not None:
        values = {**values, "prompt": values["messages"]}
    prompt_id = _text(place, values, "prompt_id") or _text(place, values, "id")
    answer = values.get("answer")
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        values = {**values, "answer": str(answer)}
    return PromptRow(place, _prompt(place, values), prompt_id, _text(place, values, "answer"))


def _token_ids(place: Place, values: Mapping[str, Any]) -> tuple[int, ...] | None:
    given = values.get("token_ids")
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(type(token) is int for token in given):
        fail(place, "token_ids must be a list of whole numbers, at least one")
    return tuple(given)


def _divided(place: Place, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of `messages` as prompt and completion; other rows as they are.

    Sampled tokens are left out: the text may be another model's, whose tokens mean nothing here.
    """
    values = {name: value for name, value in values.items() if name != "token_ids"}
    messages = values.get("messages")
    if messages is None:
        return values
    if values.get("prompt") is not None or values.get("completion") is not None:
        fail(place, "the row has messages and prompt or completion too; keep one form")
    if not isinstance(messages, list) or len(messages) < 2:
        fail(place, "messages must be a list with at least one turn before the assistant's")
    return {**values, "prompt": messages[:-1], "completion": messages[-1:]}


def _prompt(place: Place, values: Mapping[str, Any]) -> Prompt:
    value = _column(place, values, "prompt")
    if isinstance(value, str):
        return value or fail(place, "the prompt is empty")
    messages = _messages(place, value, "prompt")
    if messages[-1].role == "assistant":
        fail(place, "the prompt ends with an assistant turn; it must end where the assistant is to speak")
    return messages


def _reply(
    place: Place, values: Mapping[str, Any], column: str, id_column: str | None = None, reason_column: str | None = None
) -> Reply:
    value = _column(place, values, column)
    if not isinstance(value, str):
        messages = _messages(place, value, column)
        if len(messages) != 1 or messages[0].role != "assistant":
            fail(place, f"{column} must be one assistant message, not {[message.role for message in messages]}")
        value = messages[0].content
    if not value:
        fail(place, f"{column} is an empty completion; drop the row")
    reason = _text(place, values, reason_column or f"{column}_finish_reason")
    return Reply(value, _text(place, values, id_column or f"{column}_id"), reason == "length")


def _messages(place: Place, value: object, column: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        fail(place, f"{column} must be text or a list of {{role, content}} messages, not {_kind(value)}")
    return tuple(_message(place, entry, column) for entry in value)


def _message(place: Place, entry: object, column: str) -> Message:
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        fail(place, f"{column} holds something that is no message with role and content as text")
    if entry.get("role") not in ROLES:
        fail(place, f"{column} has a message of role {entry.get('role')!r}; roles are {', '.join(ROLES)}")
    return Message(role=entry["role"], content=entry["content"])


def _column(place: Place, values: Mapping[str, Any], column: str) -> object:
    if values.get(column) is None:
        fail(place, f"column {column!r} is missing; the row has {', '.join(values) or 'none'}")
    return values[column]


def _number(place: Place, values: Mapping[str, Any], column: str) -> float | None:
    value = values.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        fail(place, f"{column} must be a number, not {value!r}")
    return float(value)


def _text(place: Place, values: Mapping[str, Any], column: str) -> str | None:
    value = values.get(column)
    if value is not None and not isinstance(value, str):
        fail(place, f"{column} must be text, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "an empty list" if value == [] else type(value).__name__
