"""Worlds with a known drift: a judge that flips labels, prompts with a second topic, a policy at a lower temperature.

A judge here has a habit for each gold pair (right on 85 % of them) and departs from it by chance in 2 % of its
judgements, so that two looks at one pair differ in about 4 %. A fault flips a share of all its labels: any of them
(`random`), only those for the shorter reply (`length`), or only those for the reply shown second (`position`); half of
all labels are of that kind, so each of these is flipped twice as often.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.trigram import CLASSES, LENGTH, WORDS_PER_CLASS, Language, Sentences
from ratify.lineage import ROOT

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Fault = Literal["random", "length", "position"]

RIGHT, WHIM = 0.85, 0.02
GOLD, SLICE, CHECKS = 1000, 100, 20
BEGINS = 5
"""The first check of a drifted judge, from 0."""
RAMP = 10
"""Checks over which a ramp rises."""


class Stream(NamedTuple):
    """What a judge said of gold, in many runs at once."""

    baseline: Bools
    """(runs, gold) right at the baseline."""
    order: NDArray[np.int64]
    """(runs, checks * slice) which pair is judged again when."""
    right: Bools
    """(runs, checks * slice) right then."""


def judged_gold(runs: int, share: float, fault: Fault, ramp: bool, seed: int = 0) -> Stream:
    """Twenty checks of a hundred gold pairs each; the fault begins at the sixth."""
    generator = np.random.default_rng([seed, round(share * 1000), len(fault), ramp])
    habit, kind = generator.random((runs, GOLD)) < RIGHT, generator.random((runs, GOLD)) < 0.5
    baseline = habit ^ (generator.random((runs, GOLD)) < WHIM)
    turns = -(-CHECKS * SLICE // GOLD)
    order = np.concatenate([generator.random((runs, GOLD)).argsort(axis=1) for _ in range(turns)], axis=1)
    order = order[:, : CHECKS * SLICE]
    said = np.take_along_axis(habit, order, 1) ^ (generator.random(order.shape) < WHIM)
    level = np.repeat(_level(ramp), SLICE) * share
    if fault == "random":
        flipped = generator.random(order.shape) < level
    else:
        # A label is for the favoured side where gold is on it and the judge right, or neither.
        favoured = np.take_along_axis(kind, order, 1) == said
        flipped = ~favoured & (generator.random(order.shape) < 2 * level)
    return Stream(baseline, order, said ^ flipped)


def _level(ramp: bool) -> Floats:
    checks = np.arange(CHECKS) - BEGINS
    return np.clip((checks + 1) / RAMP, 0, 1) if ramp else (checks >= 0).astype(np.float64)


@lru_cache
def demo_prompts() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The demo's training prompts: all topics but sums, and sums."""
    rows = [json.loads(line) for line in (ROOT / "data/demo/prompts/train.jsonl").read_text().splitlines()]
    texts = [(row["messages"][-1]["content"], bool({"plus", "minus"} & set(row["tags"]))) for row in rows]
    return tuple(text for text, sums in texts if not sums), tuple(text for text, sums in texts if sums)


def mixed_prompts(share: float, size: int, seed: int) -> tuple[list[str], list[str]]:
    """A reference set without sums, and another set of which a share are sums; no prompt is in both."""
    generator, (main, other) = np.random.default_rng([7, seed]), demo_prompts()
    shuffled = generator.permutation(len(main))
    many = round(share * size)
    reference = [main[place] for place in shuffled[:size]]
    current = [main[place] for place in shuffled[size : 2 * size - many]]
    return reference, current + [other[place] for place in generator.permutation(len(other))[:many]]


def written_at(truth: Language, temperature: float, sentences: int, generator: np.random.Generator) -> Sentences:
    """The language of `bench.trigram` with every choice at a temperature: p^(1/T), scaled to sum to one."""
    words = np.cumsum(np.arange(1, WORDS_PER_CLASS + 1) ** (-1 / temperature))
    steps = np.diff(truth.follow, axis=1, prepend=0.0) ** (1 / temperature)
    follow = np.cumsum(steps / steps.sum(axis=1, keepdims=True), axis=1)
    state, text = generator.integers(0, CLASSES, sentences), np.empty((sentences, LENGTH), dtype=np.int64)
    for at in range(LENGTH):
        drawn = np.searchsorted(words, generator.random(sentences) * words[-1])
        text[:, at] = 1 + state * WORDS_PER_CLASS + drawn
        state = (follow[state] < generator.random(sentences)[:, None]).sum(axis=1).clip(0, CLASSES - 1)
    return text
