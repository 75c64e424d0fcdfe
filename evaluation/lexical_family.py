"""All figures of wording for two policies, computed from one interning of their replies.

Each part stands alone: what the replies do not support is named with the reason, and the rest goes on. Figures that are
means over replies or prompts have intervals from resampled prompts, the others from groups of prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluation.compression import compared_compression
from evaluation.dispersion import compared_across_prompts, compared_per_prompt, vendi_score
from evaluation.hashed_features import Floats, hashed_features
from evaluation.intervals import Estimate, EvidenceError, Resampling, difference, mean
from evaluation.near_duplicates import Duplicates, duplicates
from evaluation.ngram_figures import Compared, compared, ngram_figures
from evaluation.prompt_groups import GROUPS, group_of_prompts
from evaluation.rare_words import rare_numbers, rare_words
from evaluation.repetition import compared_repetition
from evaluation.two_samples import Tested, classifier_accuracy, mmd
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import WordStream, word_streams
from ratify.types import Completion

ORDERS = (1, 2, 4)
COLLISIONS = (4,)
PER_10_000 = 10_000
MOST_VECTORS = 4096
"""Replies of a policy that are made into vectors, about: those of evenly chosen prompts, the same for both policies."""


@dataclass
class Lexical:
    """Figures by thing, and what is missing by part."""

    compared: dict[str, Compared] = field(default_factory=dict)
    alone: dict[str, Estimate] = field(default_factory=dict)
    """`thing/stat` → a figure that has no old side."""
    counts: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Replies:
    texts: tuple[list[str], list[str]]
    streams: tuple[WordStream, WordStream]
    vocabulary: Vocabulary
    anchor: Sequence[str]
    how: Resampling

    @property
    def confidence(self) -> float:
        return self.how.confidence


def lexical_figures(
    old: Sequence[Completion], new: Sequence[Completion], anchor: Sequence[str], how: Resampling
) -> Lexical:
    """Every figure of wording that these replies support; `anchor` is frozen text by people, or empty."""
    found, vocabulary = Lexical(), Vocabulary()
    first, second = word_streams([old, new], vocabulary)
    texts = ([reply.text for reply in old], [reply.text for reply in new])
    replies = _Replies(texts, (first, second), vocabulary, anchor, how)
    parts = {f"diversity_{order}": _ngrams(order) for order in ORDERS} | PARTS
    for name, part in parts.items():
        try:
            if not old or not new:
                raise EvidenceError("there are no replies of both policies")
            part(found, replies)
        except EvidenceError as error:
            found.missing[name] = str(error)
    return found


def _ngrams(order: int) -> Callable[[Lexical, _Replies], None]:
    def part(found: Lexical, replies: _Replies) -> None:
        figures = ngram_figures(*replies.streams, order, replies.confidence)
        found.compared |= {f"distinct_{order}": figures.distinct, f"entropy_{order}": figures.entropy}
        if order in COLLISIONS:
            found.compared[f"collision_{order}"] = _scaled(figures.collision, PER_10_000)
        found.counts[f"distinct_{order}/budget"] = figures.budget

    return part


def _compression(found: Lexical, replies: _Replies) -> None:
    group = group_of_prompts(replies.streams)
    groups = (group[replies.streams[0].prompts], group[replies.streams[1].prompts])
    found.compared["compression"] = compared_compression(*replies.texts, groups, replies.confidence)


def _repetition(found: Lexical, replies: _Replies) -> None:
    found.compared["self_repetition"] = compared_repetition(*replies.streams, how=replies.how)


def _near_duplicates(found: Lexical, replies: _Replies) -> None:
    old, new = replies.streams
    before, after = duplicates(old), duplicates(new)
    ours, theirs = old.prompts.tolist(), new.prompts.tolist()
    found.compared["near_duplicates"] = Compared(
        mean(_shares(before), ours, replies.how, share=True),
        mean(_shares(after), theirs, replies.how, share=True),
        difference(_shares(after), theirs, _shares(before), ours, replies.how, share=True),
    )


def _rare(found: Lexical, replies: _Replies) -> None:
    if not replies.anchor:
        raise EvidenceError("no frozen anchor text was given")
    rare = rare_numbers(replies.anchor, replies.vocabulary)
    figures = rare_words(*replies.streams, rare, replies.confidence, replies.how)
    found.compared |= {"rare_mass": figures.mass, "rare_coverage": figures.coverage}
    found.counts |= {"rare_coverage/rare": figures.rare, "rare_coverage/budget": figures.budget}


def _within_prompts(found: Lexical, replies: _Replies) -> None:
    old, new = _samples(replies.streams)
    found.compared["within_prompts"] = compared_per_prompt(
        (hashed_features(old), old.prompts), (hashed_features(new), new.prompts), replies.how
    )


def _across_prompts(found: Lexical, replies: _Replies) -> None:
    streams = _samples(replies.streams)
    group = group_of_prompts(streams)
    old, new = ((hashed_features(stream), stream.prompts) for stream in streams)
    found.compared["across_prompts"] = compared_across_prompts(old, new, group, replies.confidence)
    values = [_vendi_by_group(vectors, prompts, group) for vectors, prompts in (old, new)]
    found.compared["vendi"] = compared(values[0], values[1], replies.confidence, (len(old[0]), len(new[0])))


def _told_apart(found: Lexical, replies: _Replies) -> None:
    old, new = _samples(replies.streams)
    sides = (hashed_features(old), old.prompts), (hashed_features(new), new.prompts)
    found.alone["told_apart/rate"] = classifier_accuracy(*sides, replies.how)
    found.alone |= _distances(mmd(*sides, seed=replies.how.seed), replies.confidence)


def _distances(tested: Tested, confidence: float) -> dict[str, Estimate]:
    """MMD and what chance reaches, as distances (square roots), and the p-value; a permutation test has no interval."""
    values = {"distance": math.sqrt(tested.statistic), "chance": math.sqrt(tested.by_chance), "p": tested.p_value}
    return {
        f"mmd/{stat}": Estimate(value=value, n=2 * tested.pairs, clusters=tested.clusters, confidence=confidence)
        for stat, value in values.items()
    }


def mmd_between(first: Sequence[Completion], second: Sequence[Completion], seed: int = 0) -> float:
    """The MMD between two sets of replies to the same prompts, by the same vectors as the report's.

    Raises:
        EvidenceError: too few prompts have replies of both.
    """
    streams = word_streams([first, second], Vocabulary())
    old, new = _samples((streams[0], streams[1]))
    tested = mmd((hashed_features(old), old.prompts), (hashed_features(new), new.prompts), 1, seed)
    return math.sqrt(tested.statistic)


def _vendi_by_group(vectors: Floats, prompts: np.ndarray, group: np.ndarray) -> list[float]:
    """The Vendi score of the first reply to each prompt of a group; it grows with n, which is the same for both."""
    names, first = np.unique(prompts, return_index=True)
    return [vendi_score(vectors[first[group[names] == number]]) for number in range(GROUPS)]


def _samples(streams: tuple[WordStream, WordStream]) -> tuple[WordStream, WordStream]:
    """The replies of both to prompts that both answer: to all of them, or every k-th where there are too many."""
    shared = np.intersect1d(streams[0].prompts, streams[1].prompts)
    if not len(shared):
        raise EvidenceError("the policies answer no prompt in common")
    step = -(-max(len(stream.lengths) for stream in streams) // MOST_VECTORS)
    old, new = (stream.chosen(np.flatnonzero(np.isin(stream.prompts, shared[::step]))) for stream in streams)
    return old, new


def _shares(found: Duplicates) -> np.ndarray:
    return found.near.astype(np.float64)


def _scaled(figure: Compared, factor: float) -> Compared:
    return Compared(*(_times(estimate, factor) for estimate in figure))


def _times(estimate: Estimate, factor: float) -> Estimate:
    ends = {
        name: None if end is None else end * factor for name, end in (("low", estimate.low), ("high", estimate.high))
    }
    return estimate.model_copy(update={"value": estimate.value * factor, **ends})


PARTS: dict[str, Callable[[Lexical, _Replies], None]] = {
    "compression": _compression,
    "self_repetition": _repetition,
    "near_duplicates": _near_duplicates,
    "rare_words": _rare,
    "within_prompts": _within_prompts,
    "across_prompts": _across_prompts,
    "told_apart": _told_apart,
}
