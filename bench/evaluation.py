"""What the figures of wording cost: processor seconds and memory for replies of 300 tokens.

    python -m bench.evaluation [--quick] [--replies N] [--json PATH]

Replies are Zipf words (seeded), four to a prompt, some of them templates and near copies, all of one policy; each step
is timed in processor seconds and takes over what the steps before it made, so that their sum is the family's cost. The
limit is 60 core-seconds and 2 GB for 100,000 replies. Memory is the process's peak, so it includes the texts.
`--quick` takes a tenth.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.compression import compression_ratio
from evaluation.dispersion import across_prompt_dispersion, per_prompt_dispersion, vendi_score
from evaluation.hashed_features import hashed_features
from evaluation.near_duplicates import duplicates
from evaluation.ngram_figures import FIGURES, counts_of
from evaluation.prompt_groups import GROUPS, group_of_prompts
from evaluation.rare_words import rare_numbers, rare_words
from evaluation.repetition import repeated_phrases, self_repetition
from evaluation.two_samples import classifier_accuracy, mmd
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import WordStream, ngram_hashes, word_stream

REPLIES = 100_000
WORDS = 300
PER_PROMPT = 4
TYPES = 50_000
VECTORS = 4_096
LIMIT_CORE_S, LIMIT_GB = 60, 2


def zipf_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 300 words with frequencies 1 / rank; one in fifty begins with a template, one in a hundred is a copy."""
    generator = np.random.default_rng(seed)
    shares = np.cumsum(1 / np.arange(1, TYPES + 1))
    names = _names()
    texts: list[str] = []
    for number in range(count):
        ranks = np.searchsorted(shares, generator.random(WORDS) * shares[-1])
        texts.append(" ".join([names[rank] for rank in ranks]))
        if number % 50 == 0:
            texts[-1] = f"i hope that this answer helps you with what you asked {texts[-1]}"
        if number % 100 == 99:
            texts[-1] = f"{texts[-50]} indeed"
    return texts


@lru_cache
def _names() -> list[str]:
    """Words that grow with their rank, as in real text."""
    letters = np.array(list("etaoinshrdlu"))[np.random.default_rng(0).integers(0, 12, (TYPES, 12))]
    return ["".join(letters[at, : 2 + int(np.log2(at + 1)) // 2]) + str(at % 7) for at in range(TYPES)]


class Timed:
    """Processor seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Do one step and keep its time."""
        started = time.process_time()
        found = work()
        self.seconds[name] = time.process_time() - started
        return found


def ngrams(stream: WordStream, order: int) -> dict[str, float]:
    """Distinct, entropy and collision of one order, group by group."""
    group, grams = group_of_prompts([stream]), ngram_hashes(stream, order)
    owner = group.astype(np.int8)[stream.prompts][grams.replies]
    counts = [counts_of(grams.hashes[owner == number]) for number in range(GROUPS)]
    return {name: float(np.mean([figure(one) for one in counts])) for name, figure in FIGURES.items()}


def compression(texts: list[str]) -> float:
    """Ratio of the first MiB of each eighth."""
    step = max(1, len(texts) // GROUPS)
    return float(
        np.mean([compression_ratio(" ".join(texts[at * step : (at + 1) * step]).encode()[: 1 << 20])
                 for at in range(GROUPS)])
    )  # fmt: skip


def spread(stream: WordStream) -> tuple[float, float, float]:
    """Dispersion within and across prompts of all replies' vectors, and Vendi of a sample."""
    some = stream.chosen(np.arange(min(VECTORS, len(stream.lengths))))
    vectors = hashed_features(some)
    within = float(per_prompt_dispersion(vectors, some.prompts)[1].mean())
    return within, across_prompt_dispersion(vectors, some.prompts), vendi_score(vectors)


def told_apart(stream: WordStream) -> tuple[float, float]:
    """Classifier and MMD between two samples as large as the report's, as if they were two policies' replies."""
    size = min(VECTORS, len(stream.lengths) // 2)
    sides = [stream.chosen(np.arange(start, start + size)) for start in (0, size)]
    old, new = ((hashed_features(side), np.arange(size) // PER_PROMPT) for side in sides)
    return classifier_accuracy(old, new).value, mmd(old, new).p_value


def measure(replies: int, seed: int = 0) -> dict[str, Any]:
    """Every step of the family for one policy."""
    texts, vocabulary, timed = zipf_texts(replies, seed), Vocabulary(), Timed()
    prompts = np.arange(replies) // PER_PROMPT
    stream = timed.step("cut into words", lambda: word_stream(texts, prompts, vocabulary))
    found: dict[str, Any] = {}
    for order in (1, 2, 4):
        found[f"order {order}"] = timed.step(f"{order}-grams", partial(ngrams, stream, order))
    found["compression"] = timed.step("compression", lambda: compression(texts))
    found["shared"] = timed.step("shared phrases", lambda: self_repetition(stream).value)
    found["phrases"] = timed.step("top phrases", lambda: repeated_phrases(stream, vocabulary, 3))
    copies = timed.step("near duplicates", lambda: duplicates(stream))
    found["near duplicates"], found["pairs checked"] = float(copies.near.mean()), copies.checked
    anchor = zipf_texts(200, seed + 1)
    found["rare"] = timed.step("rare words", lambda: _rare(stream, anchor, vocabulary))
    found["spread"] = timed.step("spread of a sample", lambda: spread(stream))
    found["told apart"] = timed.step("told apart, MMD", lambda: told_apart(stream))
    total, memory = sum(timed.seconds.values()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"replies": replies, "seconds": timed.seconds, "core_seconds": total, "peak_gb": memory, "figures": found}


def _rare(stream: WordStream, anchor: list[str], vocabulary: Vocabulary) -> tuple[float, float]:
    figures = rare_words(stream, stream, rare_numbers(anchor, vocabulary))
    return figures.mass.new.value, figures.coverage.new.value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--replies", type=int, default=REPLIES)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = measure(REPLIES // 10 if asked.quick else asked.replies)
    for name, seconds in found["seconds"].items():
        print(f"{name:<22}{seconds:8.2f} core-s")
    print(f"{'all':<22}{found['core_seconds']:8.2f} core-s for {found['replies']:,} replies of {WORDS} words")
    print(f"{'peak memory':<22}{found['peak_gb']:8.2f} GB")
    print(f"limit for {REPLIES:,} replies: {LIMIT_CORE_S} core-s, {LIMIT_GB} GB")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
