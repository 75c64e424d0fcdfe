"""Take secrets out of text that came from a server before it becomes a message, a log line or a stored failure.

A server's error body may echo the request: its headers with the key, or the prompt. Three things are replaced: the
keys of this process, whatever looks like a credential, and the request's own messages. Left out: what a model writes
about a secret in its own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

REDACTED = "[redacted]"
PROMPT = "[prompt]"
MIN_ECHO = 12
"""Shorter messages are too likely to be part of something else."""
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
    as they are or as JSON writes them."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, REDACTED)
    for echo in echoes:
        if len(echo) >= MIN_ECHO:
            text = text.replace(echo, PROMPT)
            for ascii_only in (True, False):
                text = text.replace(json.dumps(echo, ensure_ascii=ascii_only)[1:-1], PROMPT)
    return _CREDENTIALS.sub(lambda found: (found["head"] or "") + REDACTED, text)
