"""The tail of a vocabulary: words that are rare in a frozen text written by people, and how much of them is left.

Tails go first when a model is trained on its own text (Shumailov et al. 2024), but they are few words and so a noisy
figure: explain with it. Rare are the words that the anchor holds once or twice. Their mass is their share of all words
of the replies; their coverage is the share of them that is found in a fixed number of words. The anchor must be text
that no training round ever sees; replies of a first policy serve too, but flatter it, as it is measured on itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, estimate, ratio
from evaluation.ngram_figures import Compared, compared
from evaluation.prompt_groups import GROUPS, budget_of, group_of_prompts
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import WordStream

RARE = 2
"""Most often that a rare word is in the anchor."""
MIN_RARE = 20
"""Fewest rare words worth looking for."""


class RareWords(NamedTuple):
    """What two policies keep of the anchor's rare words."""

    mass: Compared
    coverage: Compared
    rare: int
    """Different rare words in the anchor."""
    budget: int
    """Words of each group of prompts in which they were looked for."""


def rare_numbers(anchor: Iterable[str], vocabulary: Vocabulary, most: int = RARE) -> NDArray[np.int64]:
    """Numbers of the words that the anchor holds, but at most `most` times.

    Raises:
        EvidenceError: when the anchor has too few of them.
    """
    counts = np.bincount(vocabulary.intern(anchor, []), minlength=1)
    found = np.flatnonzero((counts > 0) & (counts <= most))
    if len(found) < MIN_RARE:
        raise EvidenceError(f"rare words: the anchor text has {len(found)}, {MIN_RARE} are needed")
    return found


def rare_words(
    old: WordStream, new: WordStream, rare: NDArray[np.int64], confidence: float = 0.95, how: Resampling = STANDARD
) -> RareWords:
    """Mass and coverage in the replies of both policies; `rare` has the streams' word numbers.

    Raises:
        EvidenceError: when a policy has too few words.
    """
    highest = max(int(rare.max()), *(int(stream.words.max(initial=0)) for stream in (old, new)))
    is_rare = np.zeros(highest + 1, dtype=bool)
    is_rare[rare] = True
    group = group_of_prompts([old, new])
    parts = [_by_group(stream, group) for stream in (old, new)]
    budget = budget_of([np.array([len(part) for part in side]) for side in parts], "rare words", "words")
    seen = [[len(np.unique(part[:budget][is_rare[part[:budget]]])) / len(rare) for part in side] for side in parts]
    coverage = compared(seen[0], seen[1], confidence, (len(old.lengths), len(new.lengths)))
    return RareWords(_mass(old, new, is_rare, how), coverage, len(rare), budget)


def _mass(old: WordStream, new: WordStream, is_rare: NDArray[np.bool_], how: Resampling) -> Compared:
    counts = [(_per_reply(stream, is_rare), stream.lengths) for stream in (old, new)]
    singles = [_mean(found, lengths, stream, how) for (found, lengths), stream in zip(counts, (old, new), strict=True)]
    blanks = [np.zeros(len(stream.lengths)) for stream in (old, new)]
    columns = [
        *(np.concatenate([blanks[0], column]) for column in counts[1]),
        *(np.concatenate([column, blanks[1]]) for column in counts[0]),
    ]
    clusters = np.concatenate([old.prompts, new.prompts]).tolist()
    gap = estimate(columns, clusters, lambda sums: sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3], how)
    return Compared(singles[0], singles[1], gap)


def _mean(found: NDArray[np.int64], lengths: NDArray[np.int64], stream: WordStream, how: Resampling) -> Estimate:
    return ratio(found, lengths, stream.prompts.tolist(), how)


def _per_reply(stream: WordStream, is_rare: NDArray[np.bool_]) -> NDArray[np.int64]:
    running = np.concatenate([[0], np.cumsum(is_rare[stream.words])])
    return np.asarray(running[stream.starts + stream.lengths] - running[stream.starts], dtype=np.int64)


def _by_group(stream: WordStream, group: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    owner = np.repeat(group[stream.prompts], stream.lengths)
    return [stream.words[owner == number] for number in range(GROUPS)]
