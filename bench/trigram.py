"""A language with a known truth and a trigram model of it, small enough to be trained a thousand times.

The language is made up: sentences walk over word classes, and each class draws its words by Zipf's law, so that most
words are rare, as in real text. It stands in for text by people: it is drawn afresh, never from a model. The model is
a trigram model with absolute discounting (Ney, Essen and Kneser 1994) that backs off to bigrams and words; a sentence
is drawn exactly from it: an occurrence of the context is drawn, kept with probability 1 - discount / count, and
otherwise the shorter context is asked. A word that a training text lacks can never be said again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Sentences = NDArray[np.int64]
"""(sentences, words) word numbers from 1 to TYPES; all sentences of one length."""

CLASSES, WORDS_PER_CLASS, LENGTH = 12, 250, 12
TYPES = CLASSES * WORDS_PER_CLASS
DISCOUNT = 0.75
NAMES = [
    f"{'bcdfghklmnprstvz'[at % 16]}{'aeiou'[at // 16 % 5]}{'lmnrst'[at // 80 % 6]}{at // 480}"
    for at in range(TYPES + 1)
]


class Language(NamedTuple):
    """The truth: how word classes follow each other."""

    follow: NDArray[np.float64]
    """(classes, classes) running sums of the transition probabilities."""

    def write(self, sentences: int, generator: np.random.Generator) -> Sentences:
        """Fresh sentences."""
        shares = np.cumsum(1 / np.arange(1, WORDS_PER_CLASS + 1))
        state = generator.integers(0, CLASSES, sentences)
        text = np.empty((sentences, LENGTH), dtype=np.int64)
        for at in range(LENGTH):
            word = np.searchsorted(shares, generator.random(sentences) * shares[-1])
            text[:, at] = 1 + state * WORDS_PER_CLASS + word
            state = (self.follow[state] < generator.random(sentences)[:, None]).sum(axis=1).clip(0, CLASSES - 1)
        return text


def language(seed: int = 0) -> Language:
    """A language in which each class is mostly followed by two or three others."""
    shares = np.random.default_rng(seed).dirichlet(np.full(CLASSES, 0.25), CLASSES)
    return Language(np.cumsum(shares, axis=1))


class Trigrams(NamedTuple):
    """A fitted model: occurrences sorted by context, for contexts of two words, one word and none."""

    contexts: tuple[Sentences, ...]
    words: tuple[Sentences, ...]
    counts: tuple[Sentences, ...]
    """How often each occurrence's n-gram occurs."""


def fit(text: Sentences) -> Trigrams:
    """Count a text."""
    padded = np.concatenate([np.zeros((len(text), 2), dtype=np.int64), text], axis=1)
    last, before, first = padded[:, 2:].ravel(), padded[:, 1:-1].ravel(), padded[:, :-2].ravel()
    found = [_sorted(context, last) for context in (first * (TYPES + 1) + before, before, np.zeros_like(last))]
    contexts, words, counts = zip(*found, strict=True)
    return Trigrams(contexts, words, counts)


def write(model: Trigrams, sentences: int, generator: np.random.Generator) -> Sentences:
    """Sentences drawn from a model, all next to each other word by word."""
    text = np.zeros((sentences, LENGTH + 2), dtype=np.int64)
    for at in range(2, LENGTH + 2):
        asked = (text[:, at - 2] * (TYPES + 1) + text[:, at - 1], text[:, at - 1], np.zeros(sentences, dtype=np.int64))
        for order, context in enumerate(asked):
            open_ = np.flatnonzero(text[:, at] == 0)
            begin = np.searchsorted(model.contexts[order], context[open_], side="left")
            end = np.searchsorted(model.contexts[order], context[open_], side="right")
            open_, begin, end = open_[end > begin], begin[end > begin], end[end > begin]
            drawn = begin + (generator.random(len(open_)) * (end - begin)).astype(np.int64)
            kept = (order == 2) | (generator.random(len(open_)) >= DISCOUNT / model.counts[order][drawn])
            text[open_[kept], at] = model.words[order][drawn[kept]]
    return text[:, 2:]


def spelled(text: Sentences) -> list[str]:
    """Sentences as text."""
    return [" ".join([NAMES[word] for word in sentence]) for sentence in text.tolist()]


def _sorted(context: Sentences, word: Sentences) -> tuple[Sentences, Sentences, Sentences]:
    codes = np.sort(context * (TYPES + 1) + word)
    values, counts = np.unique(codes, return_counts=True)
    return codes // (TYPES + 1), codes % (TYPES + 1), np.repeat(counts, counts) if len(values) else counts
