"""Regular expressions that come from a file somebody else wrote: searched in bounded text and bounded time.

A backtracking engine can need exponential time. Three fences: a pattern that can match a text in exponentially many
ways (`(a+)+`, `(a|a)*`) is refused when the constitution is loaded (`ambiguity.py`); only the first `SEARCHED_CHARS`
characters of a text are searched; and a search that still takes longer than `SEARCH_SECONDS` is stopped with an
error, never counted as "not found".
"""

from __future__ import annotations

import re
from functools import lru_cache

import regex  # type: ignore[import-untyped]

from constitutions.ambiguity import TooManyPositionsError, explodes
from ratify.errors import ConstitutionError

SEARCHED_CHARS = 20_000
"""Only so much of a text is searched."""
SEARCH_SECONDS = 5.0
"""Hundreds of times what a sound pattern needs for that much text."""


@lru_cache(maxsize=4096)
def pattern_fault(pattern: str) -> str | None:
    """Why a pattern is refused, as the end of a sentence; None for one that may be used."""
    try:
        regex.compile(pattern)
        unbounded = explodes(pattern)
    except (re.error, regex.error) as error:
        return f"is not a regular expression: {error}"
    except (RecursionError, OverflowError, TooManyPositionsError):
        return "is nested too deeply or repeats too often"
    if unbounded:
        return (
            "can match one text in exponentially many ways, as (a+)+ and (a|a)* do, and could run for ever; let what "
            "it repeats begin or end with something that the rest of it cannot match"
        )
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
