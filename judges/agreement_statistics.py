"""How far raters agree, beyond what chance would give: raw agreement, Cohen, Fleiss, Krippendorff, Gwet, each with an
interval that resamples prompts.

Votes are a table of category numbers 0 … q−1, shape (items, raters), with `MISSING` where a rater gave nothing
readable; a failure is never a vote. Every figure is a function of sums over items, so the clustered bootstrap of
`ratify.intervals` applies to all of them. With n_ic votes of item i for category c and m_i = Σ_c n_ic:

    raw            mean over items with m_i ≥ 2 of A_i = Σ_c n_ic (n_ic − 1) / (m_i (m_i − 1))
    Cohen κ        (P_o − Σ_c p_c q_c) / (1 − Σ_c p_c q_c), two raters with shares p and q      Cohen 1960, eq. 1
    κ, chance ½    (P_o − ½) / ½: two categories in a randomised order, so that chance is known Brennan & Prediger 1981
    Fleiss κ       chance Σ_c p_c² with p_c the share of all votes; every m_i the same          Fleiss 1971, eq. 3–7
    Gwet AC1       chance Σ_c π_c (1 − π_c) / (q − 1), π_c the mean share per item              Gwet 2008, eq. 5–7
    Krippendorff α 1 − D_o / D_e over pairable votes, any number of raters and votes missing    Krippendorff 2011

κ and α fall when nearly all items belong to one category, although raters agree; AC1 does not: read them together.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratify.intervals import STANDARD, Estimate, EvidenceError, Floats, Resampling, estimate, mean

Votes = NDArray[np.int64]
Level = Literal["nominal", "ordinal", "interval"]
MISSING = -1


def vote_counts(votes: ArrayLike, categories: int) -> Floats:
    """Votes per item and category: shape (items, categories)."""
    table = np.asarray(votes, dtype=np.int64)
    return np.stack([(table == category).sum(axis=1) for category in range(categories)], axis=1).astype(np.float64)


def raw_agreement(votes: ArrayLike, clusters: Sequence[Hashable], how: Resampling = STANDARD) -> Estimate:
    """Mean share of agreeing pairs of raters, over the items with at least two votes."""
    counts = vote_counts(votes, _categories(votes))
    paired = counts.sum(axis=1) >= 2
    if not paired.any():
        raise EvidenceError("agreement: no item has two votes")
    names = [name for name, kept in zip(clusters, paired, strict=True) if kept]
    return mean(_agreeing_pairs(counts)[paired], names, how, share=True)


def cohen_kappa(
    one: ArrayLike,
    other: ArrayLike,
    clusters: Sequence[Hashable],
    how: Resampling = STANDARD,
    *,
    chance: float | None = None,
) -> Estimate:
    """Kappa of two raters over the items both rated; `chance` fixes the expected agreement (½: randomised order).

    Raises:
        EvidenceError: no item has both votes, or neither rater ever varies.
    """
    first, second = np.asarray(one, dtype=np.int64), np.asarray(other, dtype=np.int64)
    both = (first != MISSING) & (second != MISSING)
    names = [name for name, kept in zip(clusters, both, strict=True) if kept]
    first, second = first[both], second[both]
    size = _categories(np.stack([first, second])) if both.any() else 0
    columns = [first == second, np.ones(len(first))]
    columns += [side == category for side in (first, second) for category in range(size)]

    def kappa(sums: Floats) -> Floats:
        observed, n = sums[..., 0] / sums[..., 1], sums[..., 1]
        shares = sums[..., 2:] / n[..., None]
        expected = (shares[..., :size] * shares[..., size:]).sum(axis=-1) if chance is None else chance
        return np.asarray((observed - expected) / (1 - expected))

    return estimate(columns, names, kappa, how)


def fleiss_kappa(votes: ArrayLike, clusters: Sequence[Hashable], how: Resampling = STANDARD) -> Estimate:
    """Fleiss' kappa; every item needs the same number of votes.

    Raises:
        EvidenceError: items have different numbers of votes (use Krippendorff's alpha), or all votes are equal.
    """
    counts = vote_counts(votes, _categories(votes))
    totals = counts.sum(axis=1)
    if len(np.unique(totals)) != 1 or totals[0] < 2:
        raise EvidenceError("Fleiss' kappa: every item needs the same number (two or more) of votes")

    def kappa(sums: Floats) -> Floats:
        observed, shares = sums[..., 0] / sums[..., 1], sums[..., 2:] / sums[..., 2:].sum(axis=-1, keepdims=True)
        expected = (shares**2).sum(axis=-1)
        return np.asarray((observed - expected) / (1 - expected))

    return estimate([_agreeing_pairs(counts), np.ones(len(counts)), *counts.T], clusters, kappa, how)


def gwet_ac1(
    votes: ArrayLike, clusters: Sequence[Hashable], how: Resampling = STANDARD, *, categories: int | None = None
) -> Estimate:
    """Gwet's AC1 with votes missing; `categories` counts those that nobody used, too."""
    size = categories or _categories(votes)
    if size < 2:
        raise EvidenceError("AC1: needs at least two categories")
    counts = vote_counts(votes, size)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]

    def ac1(sums: Floats) -> Floats:
        observed, share = sums[..., 0] / sums[..., 1], sums[..., 3:] / sums[..., 2:3]
        expected = (share * (1 - share)).sum(axis=-1) / (size - 1)
        return np.asarray((observed - expected) / (1 - expected))

    return estimate([_agreeing_pairs(counts), totals >= 2, totals >= 1, *shares.T], clusters, ac1, how)


def krippendorff_alpha(
    votes: ArrayLike, clusters: Sequence[Hashable], how: Resampling = STANDARD, *, level: Level = "nominal"
) -> Estimate:
    """Krippendorff's alpha; categories are taken as ranks (`ordinal`) or numbers (`interval`) when told so.

    Raises:
        EvidenceError: no item has two votes, or all pairable votes are equal.
    """
    counts = vote_counts(votes, _categories(votes))
    totals, size = counts.sum(axis=1), counts.shape[1]
    pairs = counts[:, :, None] * (counts[:, None, :] - np.eye(size))
    coincidences = np.where(totals[:, None, None] >= 2, pairs / np.maximum(totals - 1, 1)[:, None, None], 0.0)

    def alpha(sums: Floats) -> Floats:
        observed = sums.reshape(*sums.shape[:-1], size, size)
        margins = observed.sum(axis=-1)
        n = margins.sum(axis=-1)
        expected = margins[..., :, None] * margins[..., None, :]
        distances = _squared_distances(margins, level)
        within, between = ((table * distances).sum(axis=(-2, -1)) for table in (observed, expected))
        return np.asarray(1 - (n - 1) * within / between)

    return estimate(list(coincidences.reshape(len(counts), -1).T), clusters, alpha, how)


def share_of_ceiling(
    judge: ArrayLike, people: ArrayLike, clusters: Sequence[Hashable], how: Resampling = STANDARD
) -> Estimate:
    """A judge's agreement with single people over people's agreement with each other, on the items of two or more.

    1 means that the judge is to a person what another person is; accuracy alone does not say how far there is to go.

    Args:
        judge: Shape (items,).
        people: Shape (items, persons).
        clusters: The prompt of each item.
        how: How the interval is made.
    """
    one = np.asarray(judge, dtype=np.int64)
    counts = vote_counts(people, max(_categories(people), _categories(judge)))
    totals = counts.sum(axis=1)
    kept = (totals >= 2) & (one != MISSING)
    names = [name for name, each in zip(clusters, kept, strict=True) if each]
    matches = np.take_along_axis(counts, np.maximum(one, 0)[:, None], axis=1)[:, 0] / np.maximum(totals, 1)
    return estimate(
        [matches[kept], _agreeing_pairs(counts)[kept]], names, lambda sums: np.asarray(sums[..., 0] / sums[..., 1]), how
    )


def _squared_distances(margins: Floats, level: Level) -> Floats:
    """δ² between categories (Krippendorff 2011): 0 or 1, ranks by how many votes lie between, or values."""
    size = margins.shape[-1]
    if level == "nominal":
        return 1.0 - np.eye(size)
    places = np.arange(size, dtype=np.float64)
    if level == "ordinal":
        places = margins.cumsum(axis=-1) - margins / 2
    return np.asarray((places[..., :, None] - places[..., None, :]) ** 2)


def _agreeing_pairs(counts: Floats) -> Floats:
    """A_i: share of agreeing pairs of votes per item; 0 where there is no pair."""
    totals = counts.sum(axis=1)
    pairs = np.maximum(totals * (totals - 1), 1)
    return np.asarray((counts * (counts - 1)).sum(axis=1) / pairs)


def _categories(votes: ArrayLike) -> int:
    """How many categories there are: the largest number used plus one."""
    return int(np.asarray(votes, dtype=np.int64).max(initial=MISSING)) + 1
