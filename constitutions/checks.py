"""Deterministic checks: what can be said of a reply's text without asking a judge. An allow-list of types, never
code.

Each check is a pure function of the completion's text. Words are what whitespace separates. What a check cannot see
(meaning, the prompt, another reply) belongs into the principle's text, for a judge.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, field_validator

from constitutions.field_classes import Part
from constitutions.patterns import found, pattern_fault


class _PatternCheck(Part):
    pattern: str = Field(min_length=1)
    ignore_case: bool = True

    @field_validator("pattern")
    @classmethod
    def _usable(cls, pattern: str) -> str:
        fault = pattern_fault(pattern)
        if fault:
            raise ValueError(f"the pattern {fault}")
        return pattern


class RegexAbsent(_PatternCheck):
    """Holds when the pattern occurs nowhere in the reply."""

    type: Literal["regex_absent"]

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return not found(self.pattern, text, ignore_case=self.ignore_case)


class RegexPresent(_PatternCheck):
    """Holds when the pattern occurs in the reply."""

    type: Literal["regex_present"]

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return found(self.pattern, text, ignore_case=self.ignore_case)


class PhrasesAbsent(Part):
    """Holds when none of the phrases occurs in the reply as whole words, whatever their case."""

    type: Literal["phrases_absent"]
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return _any_phrase(self.phrases).search(text) is None


class PhrasesPresent(Part):
    """Holds when at least one of the phrases occurs in the reply as whole words, whatever their case."""

    type: Literal["phrases_present"]
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return _any_phrase(self.phrases).search(text) is not None


class MaxWords(Part):
    """Holds for a reply of at most `value` words."""

    type: Literal["max_words"]
    value: int = Field(ge=0)

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return len(text.split()) <= self.value


class MinWords(Part):
    """Holds for a reply of at least `value` words."""

    type: Literal["min_words"]
    value: int = Field(ge=0)

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return len(text.split()) >= self.value


class MaxChars(Part):
    """Holds for a reply of at most `value` characters."""

    type: Literal["max_chars"]
    value: int = Field(ge=0)

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return len(text) <= self.value


class MinChars(Part):
    """Holds for a reply of at least `value` characters."""

    type: Literal["min_chars"]
    value: int = Field(ge=0)

    def holds(self, text: str) -> bool:
        """Whether the reply meets the check."""
        return len(text) >= self.value


Check = Annotated[
    RegexAbsent | RegexPresent | PhrasesAbsent | PhrasesPresent | MaxWords | MinWords | MaxChars | MinChars,
    Field(discriminator="type"),
]
CHECK_TYPES = (
    "regex_absent", "regex_present", "phrases_absent", "phrases_present",
    "max_words", "min_words", "max_chars", "min_chars",
)  # fmt: skip


@lru_cache(maxsize=1024)
def _any_phrase(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Literal phrases between non-word characters: no repeat, so no blow-up."""
    return re.compile(r"(?<!\w)(?:" + "|".join(re.escape(phrase) for phrase in phrases) + r")(?!\w)", re.IGNORECASE)
