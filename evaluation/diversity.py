"""How varied replies are: distinct n-grams, n-gram entropy, and replies repeated across prompts.

Distinct-n falls with the amount of text, so a policy whose replies became shorter looks more diverse while it
collapses. Every figure here is therefore taken over windows that hold the same number of n-grams for both policies: the
stream of n-grams, prompt by prompt, is cut into windows; a figure is the mean over windows, and its interval is
Student's t over them, because windows hold different prompts. N-grams never cross the end of a reply. Diversity of
meaning (paraphrases) is left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, mean, student
from ratify.canonical import digest
from ratify.types import Completion

ORDERS = (1, 2, 4)
WINDOWS = 8
"""Windows that the smaller of two policies is cut into."""
MIN_BUDGET = 20
"""Fewest n-grams in a window worth counting."""

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")

Ids = NDArray[np.int64]


class NgramDiversity(NamedTuple):
    """One policy's n-grams of one order, on a fixed budget."""

    distinct: Estimate
    """Different n-grams as a share of the budget."""
    entropy: Estimate
    """Entropy of the n-gram frequencies, bits; at most log2(budget)."""
    budget: int
    """N-grams in each window, the same for every policy that is compared."""


def words(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text."""
    return _WORD.findall(text.lower())


def intern_words(texts: Sequence[str]) -> list[Ids]:
    """Each text as an array of word numbers; equal words have equal numbers over all texts."""
    numbers: defaultdict[str, int] = defaultdict(lambda: len(numbers))
    return [np.array([numbers[word] for word in words(text)], dtype=np.int64) for text in texts]


def ngrams(replies: Sequence[Ids], order: int) -> Ids:
    """The n-grams of all replies in order, each as one number: equal n-grams have equal numbers.

    Exact, not hashed: an n-gram is the pair of its (n-1)-gram's number and its last word, numbered afresh at each step.
    """
    text = np.concatenate([*replies, np.empty(0, dtype=np.int64)])
    room = np.concatenate([np.arange(len(reply), 0, -1) for reply in replies] + [np.empty(0, dtype=np.int64)])
    numbers = text
    for step in range(1, order):
        last = np.full(len(text), -1, dtype=np.int64)
        last[: len(text) - step] = text[step:]
        pairs = numbers * (int(text.max(initial=0)) + 2) + last + 1
        numbers = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    kept: Ids = numbers[room >= order]
    return kept


def window_figures(stream: Ids, budget: int) -> tuple[list[float], list[float]]:
    """Distinct share and entropy in bits of each full window of `budget` n-grams."""
    distinct, entropy = [], []
    for start in range(0, len(stream) - budget + 1, budget):
        counts = np.unique(stream[start : start + budget], return_counts=True)[1]
        shares = counts / budget
        distinct.append(len(counts) / budget)
        entropy.append(max(0.0, float(-(shares * np.log2(shares)).sum())))
    return distinct, entropy


def ngram_diversity(
    policies: Sequence[Sequence[Completion]], order: int, confidence: float = 0.95
) -> tuple[NgramDiversity, ...]:
    """N-gram diversity of several policies, all on the budget of the one with the least text.

    Raises:
        EvidenceError: when a policy has too few n-grams for two windows.
    """
    streams = [ngrams(intern_words([reply.text for reply in _by_prompt(replies)]), order) for replies in policies]
    least = min(len(stream) for stream in streams)
    windows = min(WINDOWS, least // MIN_BUDGET)
    if windows < 2:
        raise EvidenceError(f"distinct-{order}: {least} n-grams are too few, {2 * MIN_BUDGET} are needed")
    budget = least // windows
    results = []
    for stream, replies in zip(streams, policies, strict=True):
        distinct, entropy = window_figures(stream, budget)
        size = len(replies)
        results.append(
            NgramDiversity(student(distinct, confidence, n=size), student(entropy, confidence, n=size), budget)
        )
    return tuple(results)


def duplicate_share(completions: Sequence[Completion], how: Resampling = STANDARD) -> Estimate:
    """Share of replies whose text is also, letter for letter, a reply to another prompt (case and spaces aside).

    Resampled prompts would duplicate themselves, so which replies are duplicates is settled once, on all of them.
    """
    prompts = [completion.prompt_id for completion in completions]
    return mean(repeated_across_prompts(completions), prompts, how, share=True)


def repeated_across_prompts(completions: Sequence[Completion]) -> list[bool]:
    """For each reply: is its text also a reply to another prompt?"""
    texts = [" ".join(completion.text.lower().split()) for completion in completions]
    prompts = [completion.prompt_id for completion in completions]
    spread = Counter(text for text, _ in set(zip(texts, prompts, strict=True)))
    return [spread[text] > 1 for text in texts]


def most_repeated(completions: Iterable[Completion], top: int = 5) -> list[tuple[str, int]]:
    """The texts that answer the most prompts, with the number of those prompts; texts of one prompt are left out."""
    prompts: defaultdict[str, set[str]] = defaultdict(set)
    for completion in completions:
        prompts[completion.text.strip()].add(completion.prompt_id)
    ranked = sorted(((text, len(seen)) for text, seen in prompts.items()), key=lambda entry: (-entry[1], entry[0]))
    return [(text, count) for text, count in ranked[:top] if count > 1]


def greatest_entropy(budget: int) -> float:
    """Entropy in bits of a window in which no n-gram repeats."""
    return math.log2(budget)


def _by_prompt(completions: Sequence[Completion]) -> list[Completion]:
    """Replies of one prompt together, prompts shuffled by the hash of their ids, so that topics spread over windows."""
    return sorted(completions, key=lambda completion: (digest(completion.prompt_id), completion.id))
