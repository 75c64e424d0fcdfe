"""Training prompts that are also evaluation prompts: whoever trains on them measures what it has learnt by heart.

Equal prompts are found by their words, case and spaces aside. Nearly equal ones are found by MinHash and
locality-sensitive hashing as in `near_duplicates.py`, but only across: each training prompt against the evaluation
prompts in its buckets, so that recall does not suffer where training prompts resemble each other. A pair of Jaccard
similarity 0.8 meets in a bucket with probability 0.998, and each is then checked on its true sets of 3-word runs.
Prompts of under three words count only when they are equal. What is left out: meaning; a paraphrase is not found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from evaluation.diversity import words
from evaluation.near_duplicates import BANDS, ROWS, SIMILAR, jaccard, shingle_sets, signatures
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import Hashes, mixed, word_stream
from ratify.types import Prompt

MOST_IN_BUCKET = 256
"""Evaluation prompts of a bucket that a training prompt is compared with; more would make the pass quadratic."""


class Contamination(NamedTuple):
    """What training prompts have in common with evaluation prompts; ids of both."""

    exact: Mapping[str, str]
    """Training prompt → the evaluation prompt that it equals."""
    near: Mapping[str, str]
    """Training prompt → an evaluation prompt that it nearly equals; none that is in `exact`."""


def find_contamination(
    training: Sequence[Prompt], evaluation: Sequence[Prompt], similar: float = SIMILAR
) -> Contamination:
    """Which training prompts are evaluation prompts too, judged by what the user says in them."""
    known = {tuple(words(asked(prompt))): prompt.id for prompt in reversed(evaluation)}
    exact = {prompt.id: twin for prompt in training if (twin := known.get(tuple(words(asked(prompt)))))}
    left = [prompt for prompt in training if prompt.id not in exact]
    return Contamination(exact, dict(_near(left, evaluation, similar)) if left and evaluation else {})


def asked(prompt: Prompt) -> str:
    """What the user says in a conversation; a system prompt that all have in common says nothing about the task."""
    return "\n".join(message.content for message in prompt.messages if message.role == "user")


def _near(training: Sequence[Prompt], evaluation: Sequence[Prompt], similar: float) -> Iterator[tuple[str, str]]:
    both = [*training, *evaluation]
    sets = shingle_sets(word_stream([asked(prompt) for prompt in both], range(len(both)), Vocabulary()))
    buckets, marks = defaultdict[int, list[int]](list), bands(signatures(sets))
    for place in range(len(training), len(both)):
        for key in marks[place].tolist() if len(sets.of(place)) else ():
            buckets[key].append(place)
    for place, prompt in enumerate(training):
        mine = sets.of(place)
        met = {other for key in marks[place].tolist() for other in buckets.get(key, [])[:MOST_IN_BUCKET]}
        for other in sorted(met):
            if len(mine) and jaccard(mine, sets.of(other)) >= similar:
                yield prompt.id, both[other].id
                break


def bands(marks: Hashes) -> Hashes:
    """(texts, bands) keys of the buckets that signatures fall into."""
    keys = np.zeros((len(marks), BANDS), dtype=np.uint64)
    for band in range(BANDS):
        key = np.full(len(marks), band, dtype=np.uint64)
        for row in range(band * ROWS, (band + 1) * ROWS):
            key = mixed(key ^ marks[:, row])
        keys[:, band] = key
    return keys
