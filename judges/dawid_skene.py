"""Dawid-Skene: who is right when judges disagree and nobody knows how good each is.

Each judge r has a table π_r[k, l], how often it says l when k is true; EM finds these tables, the prevalence of each
category and the probability of each item's truth together (Dawid and Skene 1979, eq. 2.3–2.5). Judges are taken to err
independently given the truth: two judges of one model family are not, and would be believed too much. Missing votes
are left out, not counted as anything. Every cell starts with `smoothing` made-up votes (a Dirichlet prior), so that a
judge with few votes is not certain of anything; EM then never lowers the log posterior.

Needs three judges or more: of two, nobody can say who errs. Left out: item difficulty (GLAD), judges' correlation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from judges.agreement_statistics import MISSING
from ratify.intervals import EvidenceError, Floats

MAX_STEPS = 500
CLOSE_ENOUGH = 1e-7
"""EM stops when no item's probability moves more than this."""


class DawidSkene(NamedTuple):
    """What EM found. n: items, q: categories, r: judges."""

    truth: Floats
    """Probability of each category per item: shape (n, q)."""
    prevalence: Floats
    """Shape (q,)."""
    confusion: Floats
    """Shape (r, q, q): P(judge says the last | the middle is true)."""
    log_posterior: tuple[float, ...]
    """After each step, up to a constant."""


def fit_dawid_skene(votes: ArrayLike, categories: int = 2, smoothing: float = 0.5) -> DawidSkene:
    """Fit to votes of shape (items, judges), `MISSING` where there is none.

    Raises:
        EvidenceError: fewer than three judges, or an item without any vote.
    """
    table = np.asarray(votes, dtype=np.int64)
    if table.ndim != 2 or table.shape[1] < 3:
        raise EvidenceError("Dawid-Skene needs the votes of at least three judges")
    if not (table != MISSING).any(axis=1).all():
        raise EvidenceError("Dawid-Skene: an item without any vote has no answer; leave it out")
    said = (table[:, :, None] == np.arange(categories)).astype(np.float64)
    truth = said.sum(axis=1) / said.sum(axis=(1, 2))[:, None]
    trace: list[float] = []
    for _ in range(MAX_STEPS):
        prevalence, confusion = _maximise(truth, said, smoothing)
        before, (truth, log_likelihood) = truth, _expect(prevalence, confusion, said)
        prior = smoothing * (np.log(prevalence).sum() + np.log(confusion).sum())
        trace.append(float(log_likelihood + prior))
        if np.abs(truth - before).max() < CLOSE_ENOUGH:
            break
    return DawidSkene(truth, prevalence, confusion, tuple(trace))


def _maximise(truth: Floats, said: Floats, smoothing: float) -> tuple[Floats, Floats]:
    """Prevalence and confusion tables from the items' probabilities (eq. 2.3 and 2.4)."""
    mass = truth.sum(axis=0) + smoothing
    counts = np.einsum("nk,nrl->rkl", truth, said) + smoothing
    return mass / mass.sum(), counts / counts.sum(axis=2, keepdims=True)


def _expect(prevalence: Floats, confusion: Floats, said: Floats) -> tuple[Floats, float]:
    """The items' probabilities from prevalence and tables (eq. 2.5), and the log-likelihood."""
    joint = np.log(prevalence) + np.einsum("nrl,rkl->nk", said, np.log(confusion))
    top = joint.max(axis=1, keepdims=True)
    mass = np.exp(joint - top)
    total = mass.sum(axis=1, keepdims=True)
    return mass / total, float((top + np.log(total)).sum())
