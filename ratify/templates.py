"""Prompt templates: plain text files with `{name}` slots, filled in one pass.

One pass matters: `str.format` dies on a literal brace in a reply, and chained `replace` would expand a `{principle}`
that a user wrote inside a prompt. Chat templates are not here: they belong to the model that the server loads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from ratify.errors import ConfigError
from ratify.types import Message

_SLOT = re.compile(r"\{([a-z_]+)\}")
_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System"}


def load_template(path: Path) -> str:
    """Read a template; the newline that ends the file is not part of the prompt."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise ConfigError(f"prompt template {path} cannot be read ({error.strerror}); restore it from git") from error


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Replace every `{name}` by `fields[name]` in a single pass; a slot without a field is an error."""
    parts = _parts(template)
    filled = list(parts)
    try:
        filled[1::2] = [fields[name] for name in parts[1::2]]
    except KeyError as error:
        known = ", ".join(sorted(fields))
        raise ConfigError(f"template slot {{{error.args[0]}}} has no value; known slots: {known}") from None
    return "".join(filled)


@lru_cache(maxsize=64)
def _parts(template: str) -> tuple[str, ...]:
    """Text and slot names in turn."""
    return tuple(_SLOT.split(template))


def conversation_text(messages: Sequence[Message]) -> str:
    """A conversation as a judge reads it: one `Speaker: text` line per message."""
    return "\n".join(f"{_SPEAKERS[message.role]}: {message.content}" for message in messages)
