"""Regular expressions that come from a file somebody else wrote: searched in bounded text and bounded time.

A backtracking engine can need exponential time. Three fences, none of which is a proof: a repeat inside an unbounded
repeat (`(a+)+`, the usual cause) is refused when the constitution is loaded; only the first `SEARCHED_CHARS`
characters of a text are searched; and a search that still takes longer than `SEARCH_SECONDS` is stopped with an
error, never counted as "not found".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]

from ratify.errors import ConstitutionError

_UNBOUNDED = re._constants.MAXREPEAT  # type: ignore[attr-defined]
SEARCHED_CHARS = 20_000
"""Only so much of a text is searched."""
SEARCH_SECONDS = 5.0
"""Hundreds of times what a sound pattern needs for that much text."""


def pattern_fault(pattern: str) -> str | None:
    """Why a pattern is refused, as the end of a sentence; None for one that may be used."""
    try:
        parsed = re._parser.parse(pattern)  # type: ignore[attr-defined]  # the only view of a pattern's structure
        regex.compile(pattern)
    except (re.error, regex.error) as error:
        return f"is not a regular expression: {error}"
    except (RecursionError, OverflowError):
        return "is nested too deeply or repeats too often"
    if _repeat_in_repeat(parsed, inside=False):
        return "repeats a repeat, as (a+)+ does, and could run for ever; write it without the inner or the outer repeat"
    return None


def found(pattern: str, text: str, *, ignore_case: bool = True) -> bool:
    """Whether a pattern occurs in the first `SEARCHED_CHARS` characters of a text.

    Raises:
        ConstitutionError: the search took longer than `SEARCH_SECONDS`.
    """
    try:
        return _compiled(pattern, ignore_case).search(text[:SEARCHED_CHARS], timeout=SEARCH_SECONDS) is not None
    except TimeoutError:
        raise ConstitutionError(
            f"the pattern {pattern!r} takes more than {SEARCH_SECONDS:g} s on {len(text)} characters; simplify it"
        ) from None


@lru_cache(maxsize=4096)
def _compiled(pattern: str, ignore_case: bool) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)


def _repeat_in_repeat(parsed: Any, inside: bool) -> bool:
    """Walk Python's parse tree: (operation, argument) pairs whose arguments hold further trees."""
    for operation, argument in parsed:
        unbounded = str(operation) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] == _UNBOUNDED
        if unbounded and inside:
            return True
        if any(_repeat_in_repeat(tree, inside or unbounded) for tree in _trees(argument)):
            return True
    return False


def _trees(argument: Any) -> list[Any]:
    """The parse trees within an operation's argument, however deep it wraps them."""
    if isinstance(argument, re._parser.SubPattern):  # type: ignore[attr-defined]
        return [argument]
    if isinstance(argument, list | tuple):
        return [tree for item in argument for tree in _trees(item)]
    return []
