"""N-grams against a slow loop; diversity that length cannot move."""

import math
from collections import Counter

import numpy as np
import pytest

from evaluation.diversity import (
    duplicate_share,
    intern_words,
    most_repeated,
    ngram_diversity,
    ngrams,
    window_figures,
    words,
)
from evaluation.intervals import EvidenceError
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


@pytest.mark.parametrize("order", [1, 2, 4])
def test_ngrams_equal_a_slow_loop(order: int) -> None:
    texts = [*random_texts(30, 9, 6), "", "w1", "w1 w2 w3"]
    slow = []
    for text in texts:
        tokens = words(text)
        slow += [tuple(tokens[at : at + order]) for at in range(len(tokens) - order + 1)]
    fast = ngrams(intern_words(texts), order).tolist()
    assert len(fast) == len(slow)
    numbers: dict[tuple[str, ...], int] = {}
    for gram, number in zip(slow, fast, strict=True):
        assert numbers.setdefault(gram, number) == number
    assert len(set(fast)) == len(numbers)


def test_window_by_hand() -> None:
    """1 1 2 3: three of four distinct; entropy 0.5 * 1 + 2 * 0.25 * 2 = 1.5 bits. The rest fills no window."""
    assert window_figures(np.array([1, 1, 2, 3, 9]), 4) == ([0.75], [1.5])


def test_entropy_equals_a_slow_loop() -> None:
    stream = np.random.default_rng(3).integers(0, 9, 50)
    counts = Counter(stream.tolist())
    slow = -sum(count / 50 * math.log2(count / 50) for count in counts.values())
    assert window_figures(stream, 50)[1][0] == pytest.approx(slow)


def test_shorter_replies_do_not_look_more_diverse() -> None:
    """The same words in half as many: plain distinct-1 nearly doubles, on a fixed budget nothing moves."""
    old = [reply(f"p{at}", text) for at, text in enumerate(random_texts(300, 20, 50, seed=1))]
    new = [reply(f"p{at}", text) for at, text in enumerate(random_texts(150, 20, 50, seed=2))]
    before, after = ngram_diversity([old, new], 2)
    assert before.budget == after.budget
    assert after.distinct.value == pytest.approx(before.distinct.value, abs=0.04)


def test_a_poorer_vocabulary_is_seen() -> None:
    rich = [reply(f"p{at}", text) for at, text in enumerate(random_texts(100, 12, 400))]
    poor = [reply(f"p{at}", text) for at, text in enumerate(random_texts(100, 12, 40))]
    before, after = ngram_diversity([rich, poor], 1)
    assert after.distinct.high < before.distinct.low
    assert after.entropy.high < before.entropy.low


def test_a_constant_answer_has_next_to_no_entropy() -> None:
    constant = [reply(f"p{at}", "yes") for at in range(100)]
    found = ngram_diversity([constant], 1)[0]
    assert (found.entropy.value, found.distinct.value) == (0.0, 1 / found.budget)
    assert duplicate_share(constant).value == 1.0


def test_repetition_within_a_prompt_is_not_across_prompts() -> None:
    replies = [reply("p", "same"), reply("p", "same", 1), reply("q", "other"), reply("r", " Other ")]
    assert duplicate_share(replies).value == 0.5


def test_most_repeated_counts_prompts() -> None:
    replies = [reply("p", "x"), reply("p", "x", 1), reply("q", "x"), reply("q", "y", 1)]
    assert most_repeated(replies) == [("x", 2)]


def test_too_little_text_is_no_evidence() -> None:
    with pytest.raises(EvidenceError, match="too few"):
        ngram_diversity([[reply("p", "a b c")]], 2)
    with pytest.raises(EvidenceError):
        ngram_diversity([[reply("p", "")]], 4)
