"""Have the prompts drifted from a frozen reference set? Three tests on words and lengths, Holm over the three.

- MMD: the distance of mean random Fourier features of hashed words (Gretton et al. 2012), by permutation of both sets.
- C2ST: a classifier learns to tell the sets apart on one half of the prompts and is asked about the other half; its AUC
  is tested by Mann and Whitney's rank test, which is exact because the classifier has not seen that half. Prompts of
  equal text are in one half.
- Kolmogorov and Smirnov's test of lengths in words.

An alarm needs both a small p-value and an effect above a floor, since a large set makes any difference sure. Its
false-alarm rate is measured: the reference is split at random sixty times and the halves are tested.
What is left out: meaning. A topic that keeps its words is not seen; `vectors` may be a sentence model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import ks_2samp, mannwhitneyu

from evaluation.drift_record import Reading, missing
from evaluation.drift_tests import holm
from evaluation.hashed_features import Floats, hashed_features
from evaluation.two_samples import fourier_features, median_distance
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import mixed, word_stream

PERMUTATIONS = 999
SPLITS = 60
SPLIT_PERMUTATIONS = 99
RIDGE = 1.0
LEAST = 40
"""Prompts that each set needs."""
MOST = 2000
"""Prompts of each set that are looked at, evenly chosen."""
FLOORS = {"mmd": 0.03, "auc": 0.55, "lengths": 0.10}
"""Smallest distance, AUC and largest gap of the length distributions worth an alarm."""
TITLES = {"mmd": "words, by MMD", "auc": "words, by a classifier", "lengths": "lengths, by Kolmogorov-Smirnov"}


class Prompts(NamedTuple):
    """A set of prompts as the tests see it."""

    vectors: Floats
    """(n, d) unit vectors."""
    words: Floats
    """(n,) length of each."""
    halves: np.ndarray
    """(n,) bool: is it asked about, rather than learnt from? By its text, so that equal texts are together."""


class Effect(NamedTuple):
    """One test's effect and p-value."""

    name: str
    value: float
    p_value: float
    detectable: float


def featured(reference: Sequence[str], current: Sequence[str]) -> tuple[Prompts, Prompts]:
    """Both sets under one vocabulary, at most 2,000 prompts of each."""
    vocabulary = Vocabulary()
    first, second = (_featured(_evenly(texts), vocabulary) for texts in (reference, current))
    return first, second


def prompt_effects(
    reference: Prompts, current: Prompts, *, permutations: int = PERMUTATIONS, alpha: float = 0.05, seed: int = 0
) -> list[Effect]:
    """MMD, C2ST and lengths, in this order."""
    return [
        _mmd(reference.vectors, current.vectors, permutations, alpha, seed),
        _told_apart(reference, current, alpha),
        _lengths(reference.words, current.words, alpha),
    ]


def alarms(effects: Sequence[Effect], alpha: float = 0.05) -> list[bool]:
    """Which tests alarm: rejected by Holm and at or above their floor."""
    rejected = holm([effect.p_value for effect in effects], alpha)
    return [sure and effect.value >= FLOORS[effect.name] for sure, effect in zip(rejected, effects, strict=True)]


def prompt_readings(reference: Sequence[str], current: Sequence[str], alpha: float = 0.05) -> list[Reading]:
    """The reading of each test."""
    if min(len(reference), len(current)) < LEAST:
        why = f"{len(reference)} reference prompts and {len(current)} now; {LEAST} of each are needed"
        return [missing("prompts", "words and lengths", why)]
    if sorted(reference) == sorted(current):
        text = f"The {len(current)} prompts are those of the reference set."
        return [Reading(part="prompts", name="words and lengths", state="steady", text=text, n=len(current))]
    first, second = featured(reference, current)
    effects = prompt_effects(first, second, alpha=alpha)
    measured = split_false_alarms(first, alpha)
    trust = {"false_alarms": measured, "false_alarms_from": f"{SPLITS} random splits of the reference, any test"}
    sizes = f"{len(second.words)} prompts against {len(first.words)} of the reference"
    return [
        _reading(effect, drifted, sizes).model_copy(update={**trust, "n": len(first.words) + len(second.words)})
        for effect, drifted in zip(effects, alarms(effects, alpha), strict=True)
    ]


def split_false_alarms(reference: Prompts, alpha: float, splits: int = SPLITS) -> float:
    """Share of random splits of the reference in which some test alarms: nothing has drifted there."""
    generator, found = np.random.default_rng(0), 0
    for number in range(splits):
        chosen = generator.permutation(len(reference.words)) < len(reference.words) // 2
        halves = [Prompts(*(part[side] for part in reference)) for side in (chosen, ~chosen)]
        effects = prompt_effects(*halves, permutations=SPLIT_PERMUTATIONS, alpha=alpha, seed=number)
        found += any(alarms(effects, alpha))
    return found / splits


def _featured(texts: Sequence[str], vocabulary: Vocabulary) -> Prompts:
    stream = word_stream(texts, np.arange(len(texts)), vocabulary)
    codes = np.array([hash_of(text) for text in texts], dtype=np.uint64)
    return Prompts(hashed_features(stream), stream.lengths.astype(np.float64), (codes & np.uint64(1)).astype(bool))


def hash_of(text: str) -> int:
    """A number that a text always has, the same in every process."""
    code = int.from_bytes(text.encode("utf-8", "surrogatepass")[:64].ljust(8, b"\0")[:8], "little") ^ len(text)
    for byte in text.encode("utf-8", "surrogatepass"):
        code = (code * 1099511628211 ^ byte) & 0xFFFFFFFFFFFFFFFF
    return int(mixed(np.array([code], dtype=np.uint64))[0])


def _evenly(texts: Sequence[str]) -> list[str]:
    places = np.linspace(0, len(texts) - 1, min(MOST, len(texts))).astype(int)
    return [texts[place] for place in places]


def _mmd(reference: Floats, current: Floats, permutations: int, alpha: float, seed: int) -> Effect:
    """Distance of the mean features, beyond what chance makes; every permutation is a row of one product."""
    both = np.concatenate([reference, current])
    features = fourier_features(both, median_distance(both), seed=seed)
    features = features - features.mean(axis=0)
    generator, size = np.random.default_rng(seed + 1), len(reference)
    first = np.zeros((permutations + 1, len(both)))
    first[0, :size] = 1
    for row in first[1:]:
        row[generator.permutation(len(both))[:size]] = 1
    means = first @ features / size, (1 - first) @ features / (len(both) - size)
    squares = ((means[0] - means[1]) ** 2).sum(axis=1)
    null = squares[1:]
    p_value = (1 + int((null >= squares[0] * (1 - 1e-9)).sum())) / (permutations + 1)
    beyond = float(np.sqrt(max(0.0, squares[0] - null.mean())))
    reach = float(np.sqrt(max(0.0, np.quantile(null, 1 - alpha) - null.mean()) + float(ndtri(0.8)) * null.std()))
    return Effect("mmd", beyond, p_value, reach)


def _told_apart(reference: Prompts, current: Prompts, alpha: float) -> Effect:
    """AUC on the half that the classifier has not seen; one half is chance."""
    learnt = [part.vectors[~part.halves] for part in (reference, current)]
    asked = [part.vectors[part.halves] for part in (reference, current)]
    if min(map(len, (*learnt, *asked))) < 2:
        return Effect("auc", 0.5, 1.0, 1.0)
    weights = _discriminant(*learnt)
    scores = [part @ weights for part in asked]
    tested = mannwhitneyu(scores[1], scores[0], alternative="greater")
    n, m = len(asked[0]), len(asked[1])
    error = float(np.sqrt((n + m + 1) / (12 * n * m)))
    reach = 0.5 + float(ndtri(1 - alpha) + ndtri(0.8)) * error
    return Effect("auc", float(tested.statistic) / (n * m), float(tested.pvalue), reach)


def _discriminant(first: Floats, second: Floats) -> Floats:
    """Fisher's direction with a ridge of one prompt: closed, and as good a ranking as a logistic regression gives."""
    gap, spread = second.mean(axis=0) - first.mean(axis=0), np.eye(first.shape[1]) * RIDGE
    for part in (first, second):
        centred = part - part.mean(axis=0)
        spread += centred.T @ centred
    return np.asarray(np.linalg.solve(spread, gap))


def _lengths(reference: Floats, current: Floats, alpha: float) -> Effect:
    tested = ks_2samp(reference, current, method="asymp")
    scale = float(np.sqrt(1 / len(reference) + 1 / len(current)))
    reach = (float(np.sqrt(-np.log(alpha / 2) / 2)) + float(ndtri(0.8)) / 2) * scale
    return Effect("lengths", float(tested.statistic), float(tested.pvalue), reach)


def _reading(effect: Effect, drifted: bool, sizes: str) -> Reading:
    title, floor = TITLES[effect.name], FLOORS[effect.name]
    text = f"Prompts, {title}: {effect.value:.3f} (an alarm from {floor:g}), p = {effect.p_value:.4f}, {sizes}."
    return Reading(
        part="prompts", name=title, state="drift" if drifted else "steady", text=text, value=effect.value,
        p_value=effect.p_value, limit=floor, detectable=max(effect.detectable, floor),
    )  # fmt: skip
