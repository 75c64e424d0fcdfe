"""How far replies spread in a space of vectors: within prompts, across prompts, and as an effective number of replies.

Kirk et al. (2024) measure diversity per prompt (the replies to one prompt) and across prompts (replies to different
prompts) apart, because training moves them differently. Both are one minus a mean cosine here, and both come from sums
of unit vectors, so nothing is quadratic in the replies. Vectors are whatever the caller has: hashed words or a model's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evaluation.hashed_features import Floats
from evaluation.intervals import STANDARD, EvidenceError, Resampling, difference, mean
from evaluation.ngram_figures import Compared, compared
from evaluation.prompt_groups import GROUPS

Numbers = NDArray[np.int64]


def per_prompt_dispersion(vectors: Floats, prompts: Numbers) -> tuple[Numbers, Floats]:
    """Prompts with two or more replies, and for each one minus the mean cosine of its pairs of replies.

    For k unit vectors with sum S the mean over pairs is (|S|² - k) / (k (k - 1)).
    """
    names, index, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    sums = _sums(vectors, index, len(names))
    own = np.bincount(index, (vectors**2).sum(axis=1), minlength=len(names))
    many = counts > 1
    k = counts[many]
    return names[many], 1 - ((sums[many] ** 2).sum(axis=1) - own[many]) / (k * (k - 1))


def across_prompt_dispersion(vectors: Floats, prompts: Numbers) -> float:
    """One minus the mean cosine of pairs of replies to different prompts: (|S|² - sum of |S_p|²) over those pairs.

    Raises:
        EvidenceError: when there are not two prompts.
    """
    _, index, counts = np.unique(prompts, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise EvidenceError("diversity across prompts: there is one prompt")
    sums = _sums(vectors, index, len(counts))
    pairs = len(vectors) ** 2 - float((counts.astype(float) ** 2).sum())
    return 1 - float((sums.sum(axis=0) ** 2).sum() - (sums**2).sum()) / pairs


def vendi_score(vectors: Floats) -> float:
    """Effective number of different replies, 1 to n: exp of the entropy of the eigenvalues of K / n, K the cosines.

    Friedman and Dieng (2023), definition 3.1. The n × n kernel XXᵀ and the d × d matrix XᵀX have the same eigenvalues
    above zero, so the smaller one is decomposed. At most d.

    Raises:
        EvidenceError: when no vector differs from zero.
    """
    held = vectors[(vectors**2).sum(axis=1) > 0.5]
    if not len(held):
        raise EvidenceError("Vendi score: no reply has words")
    matrix = held.T @ held if len(held) > held.shape[1] else held @ held.T
    shares = np.linalg.eigvalsh(matrix / len(held))
    shares = shares[shares > 1e-12]
    return math.exp(-float((shares * np.log(shares)).sum()))


def compared_per_prompt(
    old: tuple[Floats, Numbers], new: tuple[Floats, Numbers], how: Resampling = STANDARD
) -> Compared:
    """Dispersion within prompts of two policies, the mean over prompts that have two or more replies of both.

    Raises:
        EvidenceError: when there is no such prompt.
    """
    before, after = per_prompt_dispersion(*old), per_prompt_dispersion(*new)
    shared, ours, theirs = np.intersect1d(before[0], after[0], assume_unique=True, return_indices=True)
    if not len(shared):
        raise EvidenceError("diversity within prompts: no prompt has two replies of both policies")
    names, one, two = shared.tolist(), before[1][ours], after[1][theirs]
    return Compared(mean(one, names, how), mean(two, names, how), difference(two, names, one, names, how))


def compared_across_prompts(
    old: tuple[Floats, Numbers], new: tuple[Floats, Numbers], group: Numbers, confidence: float = 0.95
) -> Compared:
    """Dispersion across prompts of two policies, one value for each of the groups that prompts are in.

    Raises:
        EvidenceError: when a group has fewer than two prompts of a policy.
    """
    values = [
        [across_prompt_dispersion(vectors[group[prompts] == at], prompts[group[prompts] == at]) for at in range(GROUPS)]
        for vectors, prompts in (old, new)
    ]
    return compared(values[0], values[1], confidence, (len(old[0]), len(new[0])))


def _sums(vectors: Floats, index: Numbers, size: int) -> Floats:
    """Sum of the vectors of each prompt, shape (size, dimensions)."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(size))
    return np.add.reduceat(vectors[order], starts, axis=0)
