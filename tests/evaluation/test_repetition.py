"""Shared phrases, compression and rare words against slow loops and hand-worked texts."""

import zlib

import numpy as np
import pytest

from evaluation.compression import compared_compression, compression_ratio, cross_compression, cross_ratio
from evaluation.diversity import words
from evaluation.intervals import EvidenceError
from evaluation.prompt_groups import group_of_prompts
from evaluation.rare_words import rare_numbers, rare_words
from evaluation.repetition import compared_repetition, repeated_phrases, same_words, self_repetition, shared_per_prompt
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import word_stream, word_streams
from tests.evaluation.test_diversity import random_texts
from tests.evaluation.test_ngram_figures import replies


def test_shared_phrases_equal_a_slow_loop() -> None:
    texts = random_texts(60, 12, 5, seed=8)
    prompts = [at // 3 for at in range(60)]
    holders = {}
    for text, prompt in zip(texts, prompts, strict=True):
        tokens = words(text)
        for at in range(len(tokens) - 3):
            holders.setdefault(tuple(tokens[at : at + 4]), []).append(prompt)
    slow = np.zeros(20, dtype=int)
    for owners in holders.values():
        if len(set(owners)) > 1:
            slow += np.bincount(owners, minlength=20)
    shared, total = shared_per_prompt(word_stream(texts, prompts, Vocabulary()))
    assert shared.tolist() == slow.tolist()
    assert total.tolist() == [27] * 20


def test_repetition_to_the_same_prompt_does_not_count() -> None:
    vocabulary = Vocabulary()
    same = word_stream(["a b c d", "a b c d", "e f g h"], [0, 0, 1], vocabulary)
    assert self_repetition(same).value == 0
    across = word_stream(["a b c d", "a b c d", "e f g h"], [0, 1, 2], vocabulary)
    assert self_repetition(across).value == pytest.approx(2 / 3)


def test_replies_are_cut_to_the_words_both_policies_have() -> None:
    vocabulary = Vocabulary()
    long = word_stream(["a b c", "x y", "d e f"], [0, 1, 0], vocabulary)
    short = word_stream(["z", "a b c d", "q"], [1, 0, 2], vocabulary)
    first, second = same_words([long, short])
    assert vocabulary.spelled(first.words.tolist()) == ["a", "b", "c", "d", "x"]
    assert first.lengths.tolist() == [3, 1, 1]
    assert vocabulary.spelled(second.words.tolist()) == ["a", "b", "c", "d", "z"]


def test_a_template_shows_as_repetition() -> None:
    plain = [f"{text}" for text in random_texts(200, 20, 3000, seed=1)]
    template = [f"i hope that this answer helps you . {text}" for text in plain]
    old, new = word_streams([replies(plain, "old"), replies(template)])
    found = compared_repetition(old, new)
    assert found.old.value < 0.01
    assert found.difference.low > 0.1
    assert found.difference.value == pytest.approx(found.new.value - found.old.value)


def test_top_phrases_are_spelled_out_once() -> None:
    vocabulary = Vocabulary()
    texts = [f"i hope that helps you {text}" for text in random_texts(30, 8, 3000)]
    found = repeated_phrases(word_stream(texts, range(30), vocabulary), vocabulary, top=3)
    assert found[0] == ("i hope that helps you", 30)
    assert all(phrase.prompts == 2 for phrase in found[1:])


def test_compression_ratio_is_zlib_s() -> None:
    text = b"abcabcabc" * 50
    assert compression_ratio(text) == 450 / len(zlib.compress(text, 6))


def test_text_compresses_best_after_its_like() -> None:
    like, other = (" ".join(random_texts(40, 50, 4000, seed)).encode() for seed in (1, 2))
    assert cross_ratio(like, like) > 5 > cross_ratio(like, other)


def test_compression_sees_a_template_and_not_length() -> None:
    plain, long = random_texts(160, 30, 3000, seed=1), random_texts(160, 60, 3000, seed=2)
    template = [f"{text[:90]} and that is all that i can say about it today my friend" for text in plain]
    for texts, changed in ((template, True), (long, False)):
        streams = word_streams([replies(plain, "old"), replies(texts)])
        group = group_of_prompts(streams)
        groups = (group[streams[0].prompts], group[streams[1].prompts])
        found = compared_compression(plain, texts, groups)
        assert (found.difference.low > 0.3) is changed
        assert abs(found.difference.value) < 0.05 or changed


def test_a_policy_compresses_less_after_text_in_other_words() -> None:
    plain, like = random_texts(160, 30, 300, seed=1), random_texts(160, 30, 300, seed=2)
    other = [text.translate(str.maketrans("w0123456789", "zabcdefghij")) for text in like]
    groups = (np.arange(160) % 8, np.arange(160) % 8)
    assert cross_compression(plain, like, groups).low > cross_compression(plain, other, groups).high


def test_rare_words_by_hand() -> None:
    """The anchor's rare words are r0..r29, once each; every other reply of the old policy holds one, the new never."""
    vocabulary = Vocabulary()
    anchor = [" ".join(f"r{at}" for at in range(30)), "the the the the"]
    rare = rare_numbers(anchor, vocabulary)
    assert len(rare) == 30
    old_texts = [f"the r{at % 30} cat sat" if at % 2 else "the the cat sat" for at in range(240)]
    old, new = word_streams([replies(old_texts, "old"), replies(["the cat sat on"] * 240)], vocabulary)
    found = rare_words(old, new, rare)
    assert found.mass.old.value == pytest.approx(1 / 8)
    assert (found.mass.new.value, found.coverage.new.value) == (0, 0)
    assert found.mass.difference.value == pytest.approx(-1 / 8)
    assert found.coverage.difference.high < 0
    assert found.rare == 30


def test_an_anchor_without_rare_words_is_no_evidence() -> None:
    with pytest.raises(EvidenceError, match="anchor"):
        rare_numbers(["a b c"], Vocabulary())
    with pytest.raises(EvidenceError, match="4 words"):
        self_repetition(word_stream(["a b", ""], [0, 1], Vocabulary()))
