"""Replies as one array of word numbers, and their n-grams as hashes: what all lexical figures are computed from.

A hundred thousand replies of 300 words are 120 MB here, and every figure is a sort or a count over flat arrays; nothing
looks at pairs of replies. N-grams never cross the end of a reply. Numbers of several policies can be compared when they
were interned with one vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.vocabulary import Vocabulary
from ratify.types import Completion

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

AT_ONCE = 1 << 20
"""Numbers that are mixed at once."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class WordStream(NamedTuple):
    """Replies one after another."""

    words: NDArray[np.int32]
    """(words,) word numbers."""
    lengths: Numbers
    """(replies,) words of each reply."""
    prompts: Numbers
    """(replies,) the number of each reply's prompt."""

    @property
    def starts(self) -> Numbers:
        """(replies,) where each reply begins in `words`."""
        return np.cumsum(self.lengths) - self.lengths

    def chosen(self, replies: Numbers) -> WordStream:
        """Some of the replies, in the given order."""
        lengths = self.lengths[replies]
        shifts = np.repeat(self.starts[replies] - (np.cumsum(lengths) - lengths), lengths)
        return WordStream(self.words[np.arange(len(shifts)) + shifts], lengths, self.prompts[replies])


class Ngrams(NamedTuple):
    """N-grams of a stream in order."""

    hashes: Hashes
    """(n-grams,) equal n-grams have equal hashes; different ones collide with probability 2^-64 a pair."""
    replies: NDArray[np.int32]
    """(n-grams,) the reply of each."""


def word_stream(texts: Iterable[str], prompts: Sequence[int] | Numbers, vocabulary: Vocabulary) -> WordStream:
    """Intern texts whose prompts have these numbers."""
    lengths: list[int] = []
    found = vocabulary.intern(texts, lengths)
    return WordStream(found, np.array(lengths, dtype=np.int64), np.asarray(prompts, dtype=np.int64))


def word_streams(policies: Sequence[Sequence[Completion]], vocabulary: Vocabulary | None = None) -> list[WordStream]:
    """The replies of several policies with common word and prompt numbers."""
    vocabulary = Vocabulary() if vocabulary is None else vocabulary
    numbers = defaultdict[str, int](count().__next__)
    return [
        word_stream((reply.text for reply in replies), [numbers[reply.prompt_id] for reply in replies], vocabulary)
        for replies in policies
    ]


def mixed(values: NDArray[np.integer]) -> Hashes:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): numbers spread over all 64 bits, one to one."""
    return _mix(values.astype(np.uint64))


def _mix(values: Hashes) -> Hashes:
    """The same in place, a part at a time, because a policy's n-grams are hundreds of megabytes."""
    for start in range(0, len(values), AT_ONCE):
        part = values[start : start + AT_ONCE]
        part += _MULTIPLIER
        part ^= part >> np.uint64(30)
        part *= _FIRST
        part ^= part >> np.uint64(27)
        part *= _SECOND
        part ^= part >> np.uint64(31)
    return values


def ngrams_per_reply(stream: WordStream, order: int) -> Numbers:
    """(replies,) how many n-grams each reply has."""
    return np.maximum(stream.lengths - order + 1, 0)


def ngram_hashes(stream: WordStream, order: int) -> Ngrams:
    """All n-grams of one order: a polynomial in mixed word numbers, mixed again so that any bits can be used."""
    size = max(0, len(stream.words) - order + 1)
    letters = mixed(np.arange(int(stream.words.max(initial=0)) + 1))
    hashes = np.zeros(size, dtype=np.uint64)
    for step in range(order):
        hashes *= _MULTIPLIER
        hashes += letters[stream.words[step : step + size]]
    room = np.arange(len(stream.lengths), dtype=np.int32)
    if order > 1:
        owner = np.repeat(room, stream.lengths)
        hashes = hashes[owner[:size] == owner[order - 1 : order - 1 + size]]
    return Ngrams(_mix(hashes), np.repeat(room, ngrams_per_reply(stream, order)))
