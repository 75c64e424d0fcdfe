"""Replies as short vectors without any model: hashed counts of words and word pairs.

Each word and word pair adds ±1 to one of `dimensions` places, both by its hash (feature hashing: Weinberger et al.
2009, whose inner products are those of the full counts in expectation); the vector is then scaled to length one, so
that inner products are cosines. Only the first 128 words count, so that length cannot pose as content. This sees words,
not meaning; a sentence model's vectors fit everywhere these do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evaluation.word_stream import WordStream, ngram_hashes

Floats = NDArray[np.float64]

DIMENSIONS = 512
ORDERS = (1, 2)
FIRST_WORDS = 128
AT_ONCE = 4096
"""Replies whose vectors are made at once."""


def hashed_features(stream: WordStream, dimensions: int = DIMENSIONS) -> Floats:
    """Unit vectors of all replies, shape (replies, dimensions); a reply without words is the zero vector."""
    return np.concatenate([*feature_blocks(stream, dimensions), np.zeros((0, dimensions))])


def feature_blocks(stream: WordStream, dimensions: int = DIMENSIONS) -> Iterator[Floats]:
    """The same in parts of at most 4,096 replies, for who need not keep them all."""
    for start in range(0, len(stream.lengths), AT_ONCE):
        part = opening(stream.chosen(np.arange(start, min(start + AT_ONCE, len(stream.lengths)))))
        yield _unit(_counts(part, dimensions))


def opening(stream: WordStream, most: int = FIRST_WORDS) -> WordStream:
    """The first words of each reply."""
    places = np.arange(len(stream.words)) - np.repeat(stream.starts, stream.lengths)
    return WordStream(stream.words[places < most], np.minimum(stream.lengths, most), stream.prompts)


def _counts(stream: WordStream, dimensions: int) -> Floats:
    size = len(stream.lengths)
    counts = np.zeros(size * dimensions)
    for order in ORDERS:
        grams = ngram_hashes(stream, order)
        places = grams.replies.astype(np.int64) * dimensions + (grams.hashes % np.uint64(dimensions)).astype(np.int64)
        signs = 1.0 - 2.0 * (grams.hashes >> np.uint64(63))
        counts += np.bincount(places, signs, minlength=size * dimensions)
    return counts.reshape(size, dimensions)


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))
