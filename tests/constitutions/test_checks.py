"""Checks say what they say of a text, and no pattern runs away."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import TypeAdapter

from constitutions import patterns
from constitutions.checks import CHECK_TYPES, Check
from constitutions.schema import AppliesTo
from ratify.errors import ConstitutionError
from ratify.types import Message, Prompt


def holds(text: str, **fields: Any) -> bool:
    return TypeAdapter(Check).validate_python(fields).holds(text)


def test_each_check_type() -> None:
    assert not holds("You FOOL.", type="regex_absent", pattern="fool")
    assert holds("You FOOL.", type="regex_absent", pattern="fool", ignore_case=False)
    assert holds("See [1].", type="regex_present", pattern=r"\[\d+\]")
    assert not holds("Go away now.", type="phrases_absent", phrases=["go away"])
    assert holds("The foolproof way.", type="phrases_absent", phrases=["fool"])
    assert holds("Thank you!", type="phrases_present", phrases=["please", "thank you"])
    assert holds("one two three", type="max_words", value=3) and not holds("one two three", type="max_words", value=2)
    assert holds("one two", type="min_words", value=2) and not holds("", type="min_words", value=1)
    assert holds("abc", type="max_chars", value=3) and not holds("abc", type="max_chars", value=2)
    assert holds("abc", type="min_chars", value=3) and not holds("abc", type="min_chars", value=4)


def test_the_list_of_types_is_complete() -> None:
    schema = TypeAdapter(Check).json_schema()
    assert sorted(schema["discriminator"]["mapping"]) == sorted(CHECK_TYPES)


@pytest.mark.parametrize("pattern", ["(a+)+", "(a*)*b", "((ab)+c*)+", "(?:x+y?)+$", "(.*,)*z"])
def test_a_repeat_within_a_repeat_is_refused(pattern: str) -> None:
    assert "repeats a repeat" in (patterns.pattern_fault(pattern) or "")


@pytest.mark.parametrize("pattern", [r"address|where .* lives", r"\b\d{1,5} [A-Z]\w+ (St|Ave)\b", r"(\d+\.){3}\d+"])
def test_sound_patterns_pass(pattern: str) -> None:
    assert patterns.pattern_fault(pattern) is None


def test_a_search_that_takes_too_long_is_an_error_not_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SEARCH_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(ConstitutionError, match="takes more than 0.2 s"):
        patterns.found(".*a.*a.*a.*a.*b", "a" * 5000)
    assert time.monotonic() - started < 5


def prompt(text: str, *tags: str) -> Prompt:
    return Prompt(id="p", messages=(Message(role="user", content=text),), tags=tags)


def test_a_scope_covers_prompts_with_a_tag_or_a_pattern() -> None:
    scope = AppliesTo(tags=("privacy",), any_regex=("where .* lives",))
    assert scope.covers(prompt("hello", "privacy")) and scope.covers(prompt("Tell me WHERE she lives"))
    assert not scope.covers(prompt("hello", "other"))
    assert AppliesTo().covers(prompt("anything"))
