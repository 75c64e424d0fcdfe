"""Portions of a prompt file, and quotas by tag."""

import random
from collections import Counter

import pytest

from ratify.errors import InputError
from ratify.prompt_selection import draw_prompts
from ratify.types import Message, Prompt


def prompts(count: int, tags: str = "") -> list[Prompt]:
    return [
        Prompt(
            id=str(n), messages=(Message(role="user", content=f"say {n}"),), tags=(tags[n % len(tags)],) if tags else ()
        )
        for n in range(count)
    ]


def drawn(portion: int, count: int = 100, limit: int = 30) -> list[str]:
    return [prompt.id for prompt in draw_prompts(prompts(count), limit, seed=5, portion=portion)]


def test_the_first_portion_is_the_draw_of_a_single_run() -> None:
    expected = sorted(random.Random(5).sample(range(100), 30))
    assert drawn(0) == [str(index) for index in expected]


def test_portions_do_not_overlap_until_the_file_is_used_up() -> None:
    parts = [set(drawn(portion)) for portion in range(4)]
    assert all(len(part) == 30 for part in parts)
    assert len(parts[0] | parts[1] | parts[2]) == 90
    assert len(parts[3] - parts[0] - parts[1] - parts[2]) == 10, "what was left, then the first again"
    assert drawn(10) == drawn(0), "ten portions of thirty are three times the file"


def test_without_a_limit_every_portion_is_the_whole_file() -> None:
    assert len(draw_prompts(prompts(20), None, seed=1, portion=3)) == 20


def test_quotas_are_met_and_the_rest_is_drawn_as_before() -> None:
    found = draw_prompts(prompts(300, "aaaaaaaabc"), 50, seed=3, at_least={"c": 0.3}, at_most={"a": 0.5})
    tags = Counter(tag for prompt in found for tag in prompt.tags)
    assert len(found) == 50 and tags["c"] >= 15 and tags["a"] <= 25
    assert [prompt.id for prompt in found] == sorted((prompt.id for prompt in found), key=int)


@pytest.mark.parametrize(
    ("at_least", "at_most", "said"),
    [({"c": 0.9}, {}, "asks for 45 of 50 prompts with the tag 'c', and 30 can be drawn"),
     ({}, {"a": 0.1, "b": 0.1, "c": 0.1}, "leaves 15 of the 50 prompts")],
)  # fmt: skip
def test_quotas_that_cannot_be_met_are_one_sentence(
    at_least: dict[str, float], at_most: dict[str, float], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        draw_prompts(prompts(300, "aaaaaaaabc"), 50, seed=3, at_least=at_least, at_most=at_most)
