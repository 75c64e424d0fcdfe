"""What a server's body says: a chat answer, whole, or a failure that names what is wrong with it.

The same reading serves a live answer and a line of a batch file. Half an answer is none: a missing message, a missing
finish reason, a number that cannot be, each is a parse error with its raw text, never an empty completion. Left out:
what the text means, which is the judges' business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from ratify.types import Failure

RAW_LIMIT = 2000
"""Characters of a rubbish answer that are kept."""
MOST_SHOWN = 1 << 16
"""Characters that are looked through for secrets before they are cut to `RAW_LIMIT`."""
MOST_TOKENS = 2**31 - 1
"""Larger counts are rubbish, and would not fit into the store."""
BROKEN_OFF = ("abort", "error")
"""Finish reasons of an answer that the server itself gave up."""
Clean = Callable[[str], str]
_UNREADABLE = (AttributeError, TypeError, LookupError, ValueError, ArithmeticError, RecursionError)


class ChatAnswer(NamedTuple):
    """A server's answer to one chat request."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    first_token: dict[str, float] | None
    """Natural-log probabilities of the most likely first tokens by token text; None when not asked for or not given."""
    token_ids: tuple[int, ...] | None = None
    """The sampled tokens; None when not asked for or not given."""
    attempts: int = 1
    """Requests that were sent for it."""


class CallFailed(Exception):
    """One request gave no usable answer; `failure` names why, `raw` keeps what came back, `attempts` counts the
    requests that were sent."""

    def __init__(self, failure: Failure, raw: str, attempts: int = 1) -> None:
        super().__init__(f"{failure}: {raw[:200]}")
        self.failure = failure
        self.raw = raw[:RAW_LIMIT]
        self.attempts = attempts


def decode(body: bytes, clean: Clean = str) -> Any:
    """The JSON value in a body; `clean` takes secrets out of what a failure keeps of it.

    Raises:
        CallFailed: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # some servers write NaN, Infinity or a byte order mark, which the slower reader forgives
    try:
        return json.loads(body)
    except _UNREADABLE as error:
        shown = clean(body[:MOST_SHOWN].decode("utf-8", "replace"))
        raise CallFailed(Failure.PARSE_ERROR, f"not JSON ({type(error).__name__}): {shown}") from None


def read_answer(answer: Any, clean: Clean = str) -> ChatAnswer:
    """Take apart a chat completion; `clean` takes secrets out of what a failure keeps of it.

    Raises:
        CallFailed: it is not one, or only half of one.
    """
    try:
        choice = answer["choices"][0]
        message, usage = choice["message"], answer.get("usage") or {}
        refusal = message.get("refusal")
        reason = _text(choice["finish_reason"])
        found = ChatAnswer(
            text=_text(refusal) if refusal else _content(message, choice),
            finish_reason="content_filter" if refusal else reason,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            first_token=_first_token(choice.get("logprobs")),
            token_ids=tuple(int(token) for token in choice["token_ids"]) if choice.get("token_ids") else None,
        )
    except _UNREADABLE:
        raise CallFailed(Failure.PARSE_ERROR, clean(_shown(answer))) from None
    if reason in BROKEN_OFF:
        raise CallFailed(Failure.TRANSPORT_ERROR, f"the server broke off ({reason}): {clean(_shown(answer))}")
    return found


def _content(message: dict[str, Any], choice: dict[str, Any]) -> str:
    """The text. It may be null only where the answer shows otherwise that the model spoke."""
    content = message["content"]
    spoke = message.get("reasoning") or message.get("reasoning_content") or choice.get("logprobs")
    return "" if content is None and spoke else _text(content)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any) -> int:
    """A number of tokens; absent counts as 0."""
    count = int(value or 0)
    if not 0 <= count <= MOST_TOKENS:
        raise ValueError
    return count


def _first_token(logprobs: Any) -> dict[str, float] | None:
    """The alternatives of the first token; a server that lists none gives at least the token that it chose."""
    if not logprobs or not logprobs.get("content"):
        return None
    token = logprobs["content"][0]
    found: dict[str, float] = {}
    for item in token.get("top_logprobs") or [token]:
        # Two tokens can share a text, as fragments of a character do: their probabilities add up.
        text, value = _text(item["token"]), float(item["logprob"])
        found[text] = value if text not in found else _log_add(found[text], value)
    return found


def _log_add(one: float, other: float) -> float:
    """log(exp(one) + exp(other)) for log-probabilities."""
    high, low = max(one, other), min(one, other)
    return high + math.log1p(math.exp(low - high))


def _shown(answer: Any) -> str:
    """An answer as text, whatever it is made of."""
    try:
        return str(answer)[:MOST_SHOWN]
    except (ValueError, RecursionError):
        return f"a {type(answer).__name__} that cannot be shown"
