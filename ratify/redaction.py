"""Take secrets out of text that came from a server before it becomes a message, a log line or a stored failure.

A server's error body may echo the request: its headers with the key, or the prompt. Three things are replaced: the
keys of this process, whatever looks like a credential, and the request's own messages. Left out: what a model writes
about a secret in its own words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable

REDACTED = "[redacted]"
PROMPT = "[prompt]"
MIN_SECRET = 12
"""A shorter key is a stand-in such as `EMPTY` or `none`, for a server that wants none; it is part of other words."""
MIN_ECHO = 12
"""Shorter messages are too likely to be part of something else."""
PIECE = 64
"""A message is looked for in pieces of about so many characters, since an echo may be cut off."""
_CREDENTIALS = re.compile(
    r"""(?ix)
    (?P<head>
        \b(?:proxy-)?authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token)\s+)?
      | \b(?:bearer|basic)\s+(?=[\w.~+/=-]{8})
      | \b(?:x-)?api[-_]?key["']?\s*[:=]\s*["']?
      | \bset-cookie["']?\s*[:=]\s*["']?
    )
    (?P<value> [^\s"',;<>}\]]+ )
    | \b(?:sk|pk|rk|gsk|hf|xai|ghp|gho|github_pat|glpat|AKIA|AIza)[-_]?[A-Za-z0-9][A-Za-z0-9_-]{14,}
    """
)


def redact(text: str, secrets: Iterable[str] = (), echoes: Iterable[str] = ()) -> str:
    """`text` without `secrets`, without anything that looks like a credential, and without the messages `echoes`,
    as they are or as JSON writes them. Give the whole text: half a secret is not found."""
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            text = text.replace(secret, REDACTED)
    for echo in echoes:
        for piece in _pieces(echo):
            for form in {
                piece,
                json.dumps(piece)[1:-1],
                json.dumps(piece, ensure_ascii=False)[1:-1],
                repr(piece)[1:-1],
            }:
                text = text.replace(form, PROMPT)
    text = re.sub(rf"(?:{re.escape(PROMPT)})+", PROMPT, text)
    return _CREDENTIALS.sub(lambda found: (found["head"] or "") + REDACTED, text)


def _pieces(message: str) -> list[str]:
    """A message cut into pieces of nearly equal length."""
    if len(message) < MIN_ECHO:
        return []
    size = math.ceil(len(message) / math.ceil(len(message) / PIECE))
    return [message[start : start + size] for start in range(0, len(message), size)]
