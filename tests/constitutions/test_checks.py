"""Checks say what they say of a text, and no pattern runs away."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from itertools import product
from typing import Any

import pytest
from pydantic import TypeAdapter

from constitutions import patterns
from constitutions.ambiguity import explodes
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


EXPLODES = [
    "(a+)+", "(a*)*b", "((ab)+c*)+", "(?:x+y?)+$", "(.*,)*z", "(a|a)*b", "(a|aa)*b", r"(\w\w|\d\d)*!", r"(.|\s)*x",
    "(a|A)+c|(b|ab|a)*d", r"(\w+\s*)+:", "(a?){50}b", "(?=(a+)+b)", "((a|b)*c|a*)*d", "(a|b|ab)*c", r"(?:.{0,80}x)+y",
    r"((a)\2*)*b", "(?s:.|\\n)*x",
]  # fmt: skip
SOUND = [
    r"address|where .* lives", r"\b\d{1,5} [A-Z]\w+ (St|Ave)\b", r"(\d+\.){3}\d+", r"(.|\n)*x", "(ab|ac)*b", "(a+b)+c",
    r'"(?:[^"\\]|\\.)*"', r"(\w+\s+)+:", "(a|ab)*c", r"(?:\d{1,3},)+\d", ".*a.*b",
    r"(?m)^\s{0,3}(#|[-*] |\d+\. )", "a{900}",
]  # fmt: skip


@pytest.mark.parametrize("pattern", EXPLODES)
def test_a_pattern_that_explodes_is_refused(pattern: str) -> None:
    assert "exponentially many ways" in (patterns.pattern_fault(pattern) or "")


@pytest.mark.parametrize("pattern", SOUND)
def test_sound_patterns_pass(pattern: str) -> None:
    assert patterns.pattern_fault(pattern) is None


def test_a_pattern_too_large_to_look_at_is_refused() -> None:
    assert "repeats too often" in (patterns.pattern_fault("(" + "abc|" * 500 + "d)*") or "")


def ways(pattern: str, text: str) -> int:
    """In how many ways a pattern of letters, groups, `|`, `*` and `+` matches a text, added up place by place."""
    return walk(re._parser.parse(pattern), text, Counter({0: 1}))[len(text)]  # type: ignore[attr-defined]


def walk(parsed: Any, text: str, at: Counter[int]) -> Counter[int]:
    for operation, argument in parsed:
        at = step(str(operation), argument, text, at)
    return at


def step(operation: str, argument: Any, text: str, at: Counter[int]) -> Counter[int]:
    after: Counter[int] = Counter()
    if operation in ("LITERAL", "IN"):
        codes = [argument] if operation == "LITERAL" else [code for _, code in argument]
        return Counter({place + 1: count for place, count in at.items() if text[place : place + 1] in map(chr, codes)})
    if operation == "BRANCH":
        for each in argument[1]:
            after.update(walk(each, text, at))
        return after
    if operation == "SUBPATTERN":
        return walk(argument[3], text, at)
    least, _, inner = argument
    for place, count in at.items():
        here = Counter({place: count})
        for number in range(len(text) - place + 2):
            after.update(here if number >= least else {})
            further: Counter[int] = Counter()
            for begin, times in here.items():
                ends = walk(inner, text, Counter({begin: times}))
                further.update({end: each for end, each in ends.items() if end > begin})
            here = further
    return after


def test_the_verdict_is_what_counting_the_ways_says() -> None:
    """Random patterns over a and b: exponential ambiguity shows in how the number of ways grows with the text."""
    draw, seen = random.Random(4), {True: 0, False: 0}
    words = ["".join(letters) for size in range(1, 6) for letters in product("ab", repeat=size)]

    def piece(depth: int) -> str:
        if depth == 0 or draw.random() < 0.3:
            return draw.choice(["a", "b", "ab", "[ab]"])
        bar = draw.choice(["|", ""])
        return f"({piece(depth - 1)}{bar}{piece(depth - 1)})" + draw.choice(["*", "+", "", ""])

    for _ in range(40):
        pattern = piece(2)
        most = max(ways(pattern, word * (20 // len(word))) for word in words)
        verdict = explodes(pattern)
        seen[verdict] += 1
        assert most > 20 if verdict else most <= 20 * 20, (pattern, most)
    assert min(seen.values()) > 5


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
