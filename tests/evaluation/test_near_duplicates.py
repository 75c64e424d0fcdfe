"""MinHash against exact Jaccard on all pairs of small sets; degenerate replies stay cheap."""

import itertools

import numpy as np
import pytest

from evaluation.intervals import EvidenceError
from evaluation.near_duplicates import BINS, Shingles, duplicates, jaccard, shingle_sets, signatures
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import mixed, word_stream
from tests.evaluation.test_diversity import random_texts


def edited(text: str, changes: int, generator: np.random.Generator) -> str:
    words = text.split()
    for at in generator.choice(len(words), changes, replace=False):
        words[at] = f"x{generator.integers(10**6)}"
    return " ".join(words)


def test_jaccard_by_hand() -> None:
    """a b c d and b c d e: one of three 3-grams in common."""
    sets = shingle_sets(word_stream(["a b c d", "b c d e", "a b", "a a a a a"], [0, 1, 2, 3], Vocabulary()))
    assert jaccard(sets.of(0), sets.of(1)) == pytest.approx(1 / 3)
    assert np.diff(sets.starts).tolist() == [2, 2, 0, 1]


def test_signatures_agree_as_often_as_the_sets_do() -> None:
    """200 pairs of sets of similarity 0.5 each: mean agreement within four standard errors, small sets included."""
    for size in (6, 40, 400):
        parts, starts = [], [0]
        for at in range(200):
            base = mixed(np.arange(size * 3 // 2) + at * 10_000) >> np.uint64(9)
            for values in (base[:size], base[size // 2 :]):
                parts.append(np.sort(values))
                starts.append(starts[-1] + len(values))
        marks = signatures(Shingles(np.concatenate(parts), np.array(starts)))
        truth = jaccard(parts[0], parts[1])
        agreement = (marks[::2] == marks[1::2]).mean(axis=1)
        bound = 4 * np.sqrt(0.25 / min(size, BINS) / 200) + 1 / size / 10
        assert agreement.mean() == pytest.approx(truth, abs=bound)


def test_recall_and_precision_against_exact_jaccard_on_all_pairs() -> None:
    generator = np.random.default_rng(4)
    base = random_texts(60, 60, 2000, seed=5)
    texts = base + [edited(text, int(generator.integers(0, 8)), generator) for text in base]
    stream = word_stream(texts, range(len(texts)), Vocabulary())
    sets, truth, margin = shingle_sets(stream), np.zeros(len(texts), dtype=bool), np.zeros(len(texts))
    for one, two in itertools.combinations(range(len(texts)), 2):
        similar = jaccard(sets.of(one), sets.of(two))
        truth[[one, two]] |= similar >= 0.8
        margin[[one, two]] = np.maximum(margin[[one, two]], similar)
    found = duplicates(stream).near
    assert not (found & ~truth).any(), "what is reported is never a false alarm"
    assert 20 < truth.sum() < 100
    assert found[truth].mean() > 0.97
    assert found[margin >= 0.9].all()


def test_only_other_prompts_count() -> None:
    text = random_texts(1, 40, 900)[0]
    near = f"{text} indeed"
    vocabulary = Vocabulary()
    same = duplicates(word_stream([text, near, text], [0, 0, 0], vocabulary))
    assert not same.near.any()
    across = duplicates(word_stream([text, near, "something else entirely here"], [0, 1, 2], vocabulary))
    assert (across.exact.tolist(), across.near.tolist()) == ([False] * 3, [True, True, False])


def test_a_text_of_several_prompts_is_a_near_duplicate_of_its_variant() -> None:
    text = random_texts(1, 40, 900)[0]
    found = duplicates(word_stream([text, text.upper(), f"{text} indeed"], [0, 1, 0], Vocabulary()))
    assert found.exact.tolist() == [True, True, False]
    assert found.near.all()


def test_equal_words_in_another_order_are_not_equal_texts() -> None:
    found = duplicates(word_stream(["a b c", "c b a", "a b", "a b", ""], [0, 1, 2, 3, 4], Vocabulary()))
    assert found.exact.tolist() == [False, False, True, True, False]


def test_collapsed_policies_are_checked_in_linear_work() -> None:
    """2,000 variants of one text are two million near pairs; checks are counted in thousands."""
    generator = np.random.default_rng(1)
    text = random_texts(1, 80, 900)[0]
    variants = [edited(text, 1, generator) for _ in range(2000)]
    found = duplicates(word_stream(variants, range(2000), Vocabulary()))
    assert found.near.all()
    assert found.checked < 3 * 2000


def test_no_replies_are_no_evidence() -> None:
    with pytest.raises(EvidenceError):
        duplicates(word_stream([], [], Vocabulary()))
