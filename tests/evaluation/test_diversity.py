"""Words of a text, and replies that are repeated letter for letter."""

import numpy as np

from evaluation.diversity import duplicate_share, most_repeated, words
from ratify.types import Completion


def reply(prompt: str, text: str, index: int = 0, policy: str = "new") -> Completion:
    return Completion(
        id=f"{prompt}/{policy}/{index}", prompt_id=prompt, text=text, finish_reason="stop", prompt_tokens=1,
        completion_tokens=len(text.split()), seed=0,
    )  # fmt: skip


def random_texts(count: int, length: int, vocabulary: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in generator.integers(0, vocabulary, length)) for _ in range(count)]


def test_words_and_marks() -> None:
    assert words("It's 5 o\u2019clock, No!") == ["it's", "5", "o\u2019clock", ",", "no", "!"]


def test_a_constant_answer_is_all_duplicates() -> None:
    assert duplicate_share([reply(f"p{at}", "yes") for at in range(100)]).value == 1.0


def test_repetition_within_a_prompt_is_not_across_prompts() -> None:
    replies = [reply("p", "same"), reply("p", "same", 1), reply("q", "other"), reply("r", " Other ")]
    assert duplicate_share(replies).value == 0.5


def test_most_repeated_counts_prompts() -> None:
    replies = [reply("p", "x"), reply("p", "x", 1), reply("q", "x"), reply("q", "y", 1)]
    assert most_repeated(replies) == [("x", 2)]
