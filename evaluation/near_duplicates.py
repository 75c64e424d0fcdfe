"""Replies that are nearly the same as a reply to another prompt: MinHash signatures and locality-sensitive hashing.

Two replies are near duplicates when the sets of their word 3-grams have a Jaccard similarity of at least 0.8. Each
set gets a signature of 128 minima from one hash a 3-gram (one-permutation hashing: Li, Owen and Zhang 2012), empty bins
filled from others by optimal densification (Shrivastava 2017); signatures that agree on a band of six rows become
candidates. A pair of similarity s does so in one of 21 bands with probability 1 - (1 - s^6)^21: 0.998 at 0.8, 0.015 at
0.3. Candidates are then checked on their true sets, so what is reported is never a false alarm.

No pass is quadratic, whatever the replies: equal texts are one before anything is hashed, and within a band's bucket a
reply is compared with its neighbour and with the bucket's first only. Replies of under three words count as duplicates
only when they are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import EvidenceError
from evaluation.word_stream import Hashes, WordStream, mixed, ngram_hashes

SHINGLE = 3
SIMILAR = 0.8
BINS = 128
ROWS, BANDS = 6, 21
SLACK = 0.15
"""How far the signatures' agreement may lie below the threshold for a pair to be checked: four standard errors."""
AT_ONCE = 4096
"""Texts whose signatures are made at once."""
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)

Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


class Duplicates(NamedTuple):
    """For each reply, whether a reply to another prompt is the same."""

    exact: Flags
    """Word for word, case and spaces aside."""
    near: Flags
    """Or nearly so; holds wherever `exact` does."""
    checked: int
    """Pairs whose sets were compared."""


class Shingles(NamedTuple):
    """The set of 3-grams of each text, sorted."""

    values: Hashes
    starts: Numbers
    """(texts + 1,) text t holds values[starts[t] : starts[t + 1]]."""

    def of(self, text: int) -> Hashes:
        """The set of one text."""
        return self.values[self.starts[text] : self.starts[text + 1]]


def duplicates(stream: WordStream, similar: float = SIMILAR) -> Duplicates:
    """Which replies are also, or nearly, a reply to another prompt.

    Raises:
        EvidenceError: when there is no reply.
    """
    if not len(stream.lengths):
        raise EvidenceError("duplicates: no replies")
    text, first = _equal_texts(stream)
    spread, owner = _prompts_of_texts(text, stream.prompts)
    exact = spread[text] > 1
    sets = shingle_sets(stream.chosen(first))
    alike, checked = _alike(sets, owner, spread, similar)
    return Duplicates(exact, exact | alike[text], checked)


def jaccard(one: Hashes, other: Hashes) -> float:
    """Similarity of two sorted sets: common over all members; 0 for two empty sets."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)


def shingle_sets(stream: WordStream, order: int = SHINGLE) -> Shingles:
    """The sets of n-grams of all texts; hashes are cut by the bits that number the texts, so that one sort does it."""
    (packed, replies), size = ngram_hashes(stream, order), len(stream.lengths)
    bits = np.uint64(max(1, size - 1).bit_length())
    tags = replies.astype(np.uint64)
    tags <<= np.uint64(64) - bits
    packed >>= bits
    packed |= tags
    del tags, replies
    packed.sort()
    first = np.ones(len(packed), dtype=bool)
    np.not_equal(packed[1:], packed[:-1], out=first[1:])
    kept = packed[first]
    starts = np.searchsorted(kept, np.arange(size, dtype=np.uint64) << (np.uint64(64) - bits))
    kept <<= bits
    kept >>= bits
    return Shingles(kept, np.append(starts, len(kept)).astype(np.int64))


def signatures(sets: Shingles) -> Hashes:
    """MinHash signatures, shape (texts, 128); those of empty sets are all ones."""
    size = len(sets.starts) - 1
    found = np.full((size, BINS), EMPTY, dtype=np.uint64)
    for start in range(0, size, AT_ONCE):
        stop = min(start + AT_ONCE, size)
        hashes = mixed(sets.values[sets.starts[start] : sets.starts[stop]].view(np.int64))
        texts = np.repeat(np.arange(stop - start), np.diff(sets.starts[start : stop + 1]))
        slots = texts * BINS + (hashes >> np.uint64(57)).astype(np.int64)
        np.minimum.at(found[start:stop].reshape(-1), slots, hashes & np.uint64((1 << 57) - 1))
    return _densified(found)


def _densified(found: Hashes) -> Hashes:
    """Each empty bin takes the value of a bin that a hash of (bin, attempt) picks, until that one is not empty."""
    filled, empty = found.copy(), found == EMPTY
    empty[~(found != EMPTY).any(axis=1)] = False
    attempt = 0
    while empty.any():
        attempt += 1
        rows, bins = np.nonzero(empty)
        donors = (mixed(bins + BINS * attempt) % np.uint64(BINS)).astype(np.int64)
        values = found[rows, donors]
        filled[rows, bins] = values
        empty[rows, bins] = values == EMPTY
    return filled


def _equal_texts(stream: WordStream) -> tuple[Numbers, Numbers]:
    """The number of each reply's text, and the first reply with each text; texts are equal when their words are."""
    letters, place = mixed(stream.words), np.arange(len(stream.words)) - np.repeat(stream.starts, stream.lengths)
    running = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(letters * (mixed(place) | np.uint64(1)))])
    whole = running[stream.starts + stream.lengths] - running[stream.starts]
    _, first, text = np.unique(mixed(whole) ^ mixed(stream.lengths), return_index=True, return_inverse=True)
    return text.astype(np.int64), first.astype(np.int64)


def _prompts_of_texts(text: Numbers, prompts: Numbers) -> tuple[Numbers, Numbers]:
    """For each text, how many prompts it answers and one of them."""
    pairs = np.unique(np.stack([text, prompts], axis=1), axis=0)
    owner = np.zeros(int(text.max()) + 1, dtype=np.int64)
    owner[pairs[:, 0]] = pairs[:, 1]
    return np.bincount(pairs[:, 0]), owner


def _alike(sets: Shingles, owner: Numbers, spread: Numbers, similar: float) -> tuple[Flags, int]:
    """Texts that have a near duplicate among the texts of other prompts, and how many pairs were checked."""
    marks, found, checked = signatures(sets), np.zeros(len(owner), dtype=bool), 0
    able = np.flatnonzero(np.diff(sets.starts) > 0)
    seen: set[tuple[int, int]] = set()
    for pairs in _candidates(marks, able):
        other = (owner[pairs[:, 0]] != owner[pairs[:, 1]]) | (spread[pairs] > 1).any(axis=1)
        open_ = pairs[other & ~found[pairs].all(axis=1)]
        close = (marks[open_[:, 0]] == marks[open_[:, 1]]).mean(axis=1) >= similar - SLACK
        for one, two in open_[close].tolist():
            if (found[one] and found[two]) or (one, two) in seen:
                continue
            seen.add((one, two))
            checked += 1
            if jaccard(sets.of(one), sets.of(two)) >= similar:
                found[[one, two]] = True
    return found, checked


def _candidates(marks: Hashes, able: Numbers) -> Iterator[Numbers]:
    """Of each band, pairs (smaller, larger) of texts that agree on it: neighbours in the bucket, and with its first."""
    for band in range(BANDS):
        key = np.zeros(len(able), dtype=np.uint64)
        for row in range(band * ROWS, (band + 1) * ROWS):
            key = mixed(key ^ marks[able, row])
        order = np.lexsort((mixed(able + band * len(marks)), key))
        ranked, texts = key[order], able[order]
        begins = np.concatenate([np.ones(min(1, len(ranked)), dtype=bool), ranked[1:] != ranked[:-1]])
        heads = texts[np.maximum.accumulate(np.where(begins, np.arange(len(texts)), 0))]
        again = np.flatnonzero(~begins)
        pairs = np.concatenate(
            [np.stack([texts[again - 1], texts[again]], axis=1), np.stack([heads[again], texts[again]], axis=1)]
        )
        yield np.unique(np.sort(pairs, axis=1), axis=0)
