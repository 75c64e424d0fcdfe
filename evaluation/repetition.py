"""Phrases that replies to different prompts share: how much of the text they are, and which they are.

A phrase is an n-gram of four words unless said otherwise. It repeats when a reply to another prompt holds it as well.
Everything comes from one sort of (hash, prompt): no pair of replies is ever looked at. To fit one 64-bit number, the
hash keeps 64 bits less those that number the prompts: of 30 million n-grams to 100,000 prompts about three pairs are
confused. More replies share more phrases, so two policies are
compared on the same number of words of the same prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, estimate, ratio
from evaluation.ngram_figures import Compared
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import Hashes, Ngrams, WordStream, ngram_hashes, ngrams_per_reply

ORDER = 4
LONGEST = 12
"""Words up to which a repeated phrase is spelled out."""


class Phrase(NamedTuple):
    """A repeated phrase."""

    text: str
    prompts: int
    """Prompts whose replies hold it."""


class _Spread(NamedTuple):
    """Where n-grams occur, sorted by hash."""

    hashes: Hashes
    """(n-grams,) the bits of the hash that were kept."""
    prompts: NDArray[np.int32]
    """(n-grams,) the prompt of each occurrence."""
    starts: NDArray[np.int32]
    """(different n-grams,) where each begins."""
    counts: NDArray[np.int32]
    """(different n-grams,) prompts that hold each."""
    shift: np.uint64


def shared_per_prompt(stream: WordStream, order: int = ORDER) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each prompt number, n-grams that also answer another prompt, and all n-grams."""
    size = int(stream.prompts.max(initial=-1)) + 1
    spread = _spread(ngram_hashes(stream, order), stream.prompts, size)
    lengths = np.diff(spread.starts, append=len(spread.prompts))
    shared = np.repeat(spread.counts > 1, lengths)
    return (np.bincount(spread.prompts[shared], minlength=size), np.bincount(spread.prompts, minlength=size))


def self_repetition(stream: WordStream, order: int = ORDER, how: Resampling = STANDARD) -> Estimate:
    """Share of the n-grams of replies that a reply to another prompt holds too, clustered by prompt.

    Which phrases repeat is settled once, on all replies, because resampled prompts would repeat themselves.

    Raises:
        EvidenceError: when there is no n-gram.
    """
    shared, all_ = shared_per_prompt(stream, order)
    held = np.flatnonzero(all_)
    if not len(held):
        raise EvidenceError(f"self-repetition: no reply has {order} words")
    found = ratio(shared[held], all_[held], held.tolist(), how)
    return found.model_copy(update={"n": len(stream.lengths)})


def compared_repetition(old: WordStream, new: WordStream, order: int = ORDER, how: Resampling = STANDARD) -> Compared:
    """Self-repetition of two policies, each cut to the words that both have for a prompt.

    Raises:
        EvidenceError: when the policies share no prompt with enough words.
    """
    both = same_words([old, new])
    shared_old, all_old = shared_per_prompt(both[0], order)
    shared_new, all_new = shared_per_prompt(both[1], order)
    held = [number for number in range(min(len(all_old), len(all_new))) if all_old[number] and all_new[number]]
    if not held:
        raise EvidenceError(f"self-repetition: the policies have no prompt with {order} words from both")
    columns = [counts[held] for counts in (shared_new, all_new, shared_old, all_old)]
    gap = estimate(columns, held, lambda sums: sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3], how)
    sizes = [len(stream.lengths) for stream in both]
    return Compared(
        ratio(columns[2], columns[3], held, how).model_copy(update={"n": sizes[0]}),
        ratio(columns[0], columns[1], held, how).model_copy(update={"n": sizes[1]}),
        gap.model_copy(update={"n": sum(sizes)}),
    )


def same_words(streams: Sequence[WordStream]) -> list[WordStream]:
    """Each policy's first words to a prompt, as many as the policy with the fewest has; its last reply is cut."""
    size = 1 + max(int(stream.prompts.max(initial=-1)) for stream in streams)
    held = [np.bincount(stream.prompts, stream.lengths, minlength=size).astype(np.int64) for stream in streams]
    budget = np.minimum.reduce(held)
    cut = []
    for stream in streams:
        ordered = stream.chosen(np.argsort(stream.prompts, kind="stable"))
        before = ordered.starts - _first_start(ordered, size)[ordered.prompts]
        kept = np.clip(budget[ordered.prompts] - before, 0, ordered.lengths)
        places = np.arange(len(ordered.words)) - np.repeat(ordered.starts, ordered.lengths)
        inside = places < np.repeat(kept, ordered.lengths)
        cut.append(WordStream(ordered.words[inside], kept, ordered.prompts))
    return cut


def repeated_phrases(stream: WordStream, vocabulary: Vocabulary, top: int = 10, order: int = ORDER) -> list[Phrase]:
    """The phrases that answer the most prompts, longest form first; phrases inside one already listed are left out."""
    size = int(stream.prompts.max(initial=-1)) + 1
    grams = ngram_hashes(stream, order)
    spread = _spread(grams._replace(hashes=grams.hashes.copy()), stream.prompts, size)
    wanted = np.argsort(-spread.counts, kind="stable")[: top * LONGEST]
    wanted = wanted[spread.counts[wanted] > 1]
    which = _first_occurrences(grams, spread, wanted)
    counts = ngrams_per_reply(stream, order)
    found: list[Phrase] = []
    for rank in wanted.tolist():
        at = which[int(spread.hashes[spread.starts[rank]])]
        reply = int(grams.replies[at])
        begin = int(stream.starts[reply]) + at - int(counts[:reply].sum())
        spelled = " ".join(vocabulary.spelled(stream.words[begin : begin + order].tolist()))
        found.append(Phrase(spelled, int(spread.counts[rank])))
    return _joined(sorted(found, key=lambda phrase: (-phrase.prompts, phrase.text)))[:top]


def _spread(grams: Ngrams, prompts: NDArray[np.int64], size: int) -> _Spread:
    """Sort by hash and prompt; the n-grams' hashes are overwritten."""
    shift, packed = np.uint64(max(1, size - 1).bit_length()), grams.hashes
    packed >>= shift
    packed <<= shift
    packed |= prompts.astype(np.uint64)[grams.replies]
    packed.sort()
    owners = (packed & ((np.uint64(1) << shift) - np.uint64(1))).astype(np.int32)
    first = _begins(packed)
    packed >>= shift
    starts = np.flatnonzero(_begins(packed)).astype(np.int32)
    counts = np.add.reduceat(first, starts, dtype=np.int32) if len(starts) else np.zeros(0, dtype=np.int32)
    return _Spread(packed, owners, starts, counts, shift)


def _begins(ranked: Hashes) -> NDArray[np.bool_]:
    """Where a sorted array has a value for the first time."""
    found = np.ones(len(ranked), dtype=bool)
    np.not_equal(ranked[1:], ranked[:-1], out=found[1:])
    return found


def _first_occurrences(grams: Ngrams, spread: _Spread, wanted: NDArray[np.int64]) -> dict[int, int]:
    """Kept hash of each wanted n-gram → the number of an n-gram that has it."""
    kept = grams.hashes >> spread.shift
    among = np.flatnonzero(np.isin(kept, spread.hashes[spread.starts[wanted]]))
    values, first = np.unique(kept[among], return_index=True)
    return dict(zip(values.tolist(), among[first].tolist(), strict=True))


def _first_start(ordered: WordStream, size: int) -> NDArray[np.int64]:
    held = np.bincount(ordered.prompts, ordered.lengths, minlength=size).astype(np.int64)
    return np.cumsum(held) - held


def _joined(phrases: list[Phrase]) -> list[Phrase]:
    """Phrases of as many prompts that overlap by all but a word are one longer phrase."""
    joined: list[Phrase] = []
    waiting = Counter(phrases)
    for phrase in phrases:
        if not waiting[phrase]:
            continue
        waiting[phrase] -= 1
        words, grown = phrase.text.split(), True
        while grown and len(words) < LONGEST:
            grown = False
            for other in phrases:
                pieces = other.text.split()
                if not waiting[other] or other.prompts != phrase.prompts:
                    continue
                if words[-len(pieces) + 1 :] == pieces[:-1]:
                    words, grown = [*words, pieces[-1]], True
                elif words[: len(pieces) - 1] == pieces[1:]:
                    words, grown = [pieces[0], *words], True
                if grown:
                    waiting[other] -= 1
                    break
        joined.append(Phrase(" ".join(words), phrase.prompts))
    return joined
