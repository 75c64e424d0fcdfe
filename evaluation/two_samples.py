"""Do two policies' replies to the same prompts come from one distribution? Two tests on vectors, both paired by prompt.

MMD: the distance between the mean random Fourier features of both sides (Gretton et al. 2012; Rahimi and Recht 2007),
kernel width the median distance. Its null distribution swaps old and new within prompts, all replies of one at once,
because replies depend on their prompt: permuting over all replies gives p-values near one whatever the policies do.
C2ST: a logistic regression is trained to tell new from old on some prompts and asked about the others (Lopez-Paz and
Oquab 2017); of each held-out pair of one prompt it must say which is the new one. One half is chance.

A difference is no harm: that training changed something is what it is for. These are alarms for what should not move,
such as prompts, or the same policy on another engine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.hashed_features import Floats
from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, mean
from evaluation.word_stream import mixed

Numbers = NDArray[np.int64]

FEATURES = 256
PERMUTATIONS = 999
WIDTH_SAMPLE = 500
"""Replies of each side whose distances set the kernel's width."""
CHANCE = 0.95
FOLDS = 5
MIN_PROMPTS = 20


class Tested(NamedTuple):
    """A statistic with the share of permutations that reach it."""

    statistic: float
    p_value: float
    pairs: int
    clusters: int
    """Prompts among them."""
    by_chance: float
    """What 95 in 100 permutations stay below: as far apart as two draws of one policy come to lie."""


def pairs_by_prompt(old: Numbers, new: Numbers) -> tuple[Numbers, Numbers]:
    """Indices of the i-th old and the i-th new reply of each prompt; what has no partner is left out."""
    keys = [np.stack([prompts, _turn(prompts)], axis=1) for prompts in (old, new)]
    base = 1 + max(int(part[:, 1].max(initial=0)) for part in keys)
    codes = [part[:, 0] * base + part[:, 1] for part in keys]
    _, first, second = np.intersect1d(codes[0], codes[1], assume_unique=True, return_indices=True)
    return first.astype(np.int64), second.astype(np.int64)


def fourier_features(vectors: Floats, width: float, features: int = FEATURES, seed: int = 0) -> Floats:
    """cos and sin of random projections: their inner products estimate exp(-|x - y|² / (2 width²))."""
    generator = np.random.default_rng(seed)
    projected = vectors @ generator.normal(size=(vectors.shape[1], features // 2)) / width
    both = np.concatenate([np.cos(projected), np.sin(projected)], axis=1)
    return np.asarray(both / np.sqrt(features // 2))


def median_distance(vectors: Floats, most: int = 2 * WIDTH_SAMPLE) -> float:
    """Median distance between different vectors of an evenly spaced sample; 1 where all are equal."""
    sample = vectors[np.linspace(0, len(vectors) - 1, min(most, len(vectors))).astype(int)]
    squares = (sample**2).sum(axis=1)
    gaps = np.maximum(squares[:, None] + squares[None] - 2 * sample @ sample.T, 0)
    middle = float(np.median(np.sqrt(gaps[np.triu_indices(len(sample), 1)]))) if len(sample) > 1 else 0.0
    return middle or 1.0


def mmd(
    old: tuple[Floats, Numbers], new: tuple[Floats, Numbers], permutations: int = PERMUTATIONS, seed: int = 0
) -> Tested:
    """Squared MMD of paired replies and its p-value under swaps within prompts; arguments are (vectors, prompts).

    Raises:
        EvidenceError: when too few prompts have replies of both.
    """
    first, second = _paired(old[1], new[1])
    width = median_distance(np.concatenate([old[0][first], new[0][second]]))
    gaps = fourier_features(new[0][second], width, seed=seed) - fourier_features(old[0][first], width, seed=seed)
    clusters = np.unique(old[1][first], return_inverse=True)[1]
    sums = np.zeros((int(clusters.max()) + 1, gaps.shape[1]))
    np.add.at(sums, clusters, gaps)
    signs = np.random.default_rng(seed + 1).integers(0, 2, size=(permutations, len(sums))) * 2.0 - 1
    null = (((signs @ sums) / len(gaps)) ** 2).sum(axis=1)
    found = float(((sums.sum(axis=0) / len(gaps)) ** 2).sum())
    p_value = (1 + int((null >= found * (1 - 1e-9)).sum())) / (permutations + 1)
    return Tested(found, p_value, len(gaps), len(sums), float(np.quantile(null, CHANCE)))


def classifier_accuracy(
    old: tuple[Floats, Numbers], new: tuple[Floats, Numbers], how: Resampling = STANDARD, folds: int = FOLDS
) -> Estimate:
    """Share of held-out pairs of one prompt whose new reply the classifier picks; folds hold whole prompts.

    Raises:
        EvidenceError: when too few prompts have replies of both.
    """
    first, second = _paired(old[1], new[1])
    before, after, prompts = old[0][first], new[0][second], old[1][first]
    fold = (mixed(prompts) % np.uint64(folds)).astype(np.int64)
    right = np.full(len(prompts), 0.5)
    for number in range(folds):
        held = fold == number
        if held.any() and not held.all():
            weights = _trained(before[~held], after[~held])
            margin = (after[held] - before[held]) @ weights
            right[held] = 0.5 + 0.5 * np.sign(margin)
    return mean(right, prompts.tolist(), how, share=True)


def _trained(before: Floats, after: Floats) -> Floats:
    """Weights of a logistic regression of differences without intercept: the pairwise form, P(new) of a pair."""
    from sklearn.linear_model import LogisticRegression

    gaps = np.concatenate([after - before, before - after])
    truth = np.repeat([1, 0], len(before))
    model = LogisticRegression(C=1.0, fit_intercept=False, max_iter=200).fit(gaps, truth)
    return np.asarray(model.coef_[0], dtype=np.float64)


def _paired(old: Numbers, new: Numbers) -> tuple[Numbers, Numbers]:
    first, second = pairs_by_prompt(old, new)
    held = len(np.unique(old[first]))
    if held < MIN_PROMPTS:
        raise EvidenceError(f"two-sample test: {held} prompts have replies of both, {MIN_PROMPTS} are needed")
    return first, second


def _turn(prompts: Numbers) -> Numbers:
    """0 for the first reply of a prompt, 1 for its second, and so on."""
    order = np.argsort(prompts, kind="stable")
    ranked = prompts[order]
    begins = np.concatenate([np.ones(min(1, len(ranked)), dtype=bool), ranked[1:] != ranked[:-1]])
    starts = np.maximum.accumulate(np.where(begins, np.arange(len(ranked)), 0))
    found = np.empty(len(prompts), dtype=np.int64)
    found[order] = np.arange(len(ranked)) - starts
    return found
