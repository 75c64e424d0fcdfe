"""Words of a text, and replies repeated letter for letter across prompts.

Shared phrases are in `repetition`, nearly equal replies in `near_duplicates`, varied wording in `ngram_figures`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from evaluation.intervals import STANDARD, Estimate, Resampling, mean
from ratify.types import Completion

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text."""
    return _WORD.findall(text.lower())


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
