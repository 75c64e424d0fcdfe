"""Dawid-Skene finds known judges again, beats the majority, and one step equals a plain loop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from judges.agreement_statistics import MISSING
from judges.dawid_skene import _expect, _maximise, fit_dawid_skene
from ratify.intervals import EvidenceError

RIGHT = np.array([[0.95, 0.9], [0.6, 0.65], [0.6, 0.55], [0.55, 0.65], [0.9, 0.7]])
"""P(right | truth 0), P(right | truth 1) of five judges."""


def world(seed: int, n: int = 2000, missing: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = (generator.random(n) < 0.4).astype(int)
    right = generator.random((n, len(RIGHT))) < RIGHT[:, truth].T
    votes = np.where(right, truth[:, None], 1 - truth[:, None])
    gone = generator.random(votes.shape) < missing
    gone[:, 0] &= ~gone[:, 1:].all(axis=1)
    return np.where(gone, MISSING, votes), truth


def test_known_judges_are_found_again() -> None:
    votes, _ = world(0)
    found = fit_dawid_skene(votes)
    assert found.confusion[:, [0, 1], [0, 1]] == pytest.approx(RIGHT, abs=0.07)
    assert found.prevalence == pytest.approx([0.6, 0.4], abs=0.05)
    assert found.confusion.sum(axis=2) == pytest.approx(np.ones((5, 2)))


def test_it_beats_the_majority() -> None:
    votes, truth = world(1)
    majority = np.where(votes == MISSING, 0.5, votes).mean(axis=1) > 0.5
    fitted = fit_dawid_skene(votes).truth[:, 1] > 0.5
    assert (fitted == truth).mean() > (majority == truth).mean() + 0.05


def test_its_probabilities_mean_what_they_say() -> None:
    """With enough items; on 2,000 they are off by up to a tenth, since the tables are only estimated."""
    votes, truth = world(2, n=10_000)
    p = fit_dawid_skene(votes).truth[:, 1]
    sure = (p > 0.8) & (p < 0.95)
    assert truth[sure].mean() == pytest.approx(p[sure].mean(), abs=0.03)


def test_the_log_posterior_never_falls() -> None:
    trace = fit_dawid_skene(world(3, n=300)[0]).log_posterior
    assert len(trace) > 3 and all(later >= earlier - 1e-9 for earlier, later in pairwise(trace))


def test_one_step_equals_a_plain_loop() -> None:
    votes = np.array([[0, 0, 1], [1, MISSING, 1], [0, 1, 1]])
    said = (votes[:, :, None] == np.arange(2)).astype(float)
    start = np.array([[2 / 3, 1 / 3], [0.0, 1.0], [1 / 3, 2 / 3]])
    prevalence, confusion = _maximise(start, said, 0.5)
    after, _ = _expect(prevalence, confusion, said)
    for judge in range(3):
        for true in range(2):
            counts = [0.5, 0.5]
            for item in range(3):
                if votes[item, judge] != MISSING:
                    counts[votes[item, judge]] += start[item, true]
            assert confusion[judge, true] == pytest.approx(np.array(counts) / sum(counts))
    for item in range(3):
        mass = prevalence.copy()
        for judge in range(3):
            if votes[item, judge] != MISSING:
                mass *= confusion[judge, :, votes[item, judge]]
        assert after[item] == pytest.approx(mass / mass.sum())


def test_too_few_judges_or_votes_are_refused() -> None:
    with pytest.raises(EvidenceError, match="three judges"):
        fit_dawid_skene([[0, 1], [1, 1]])
    with pytest.raises(EvidenceError, match="without any vote"):
        fit_dawid_skene([[0, 1, 1], [MISSING] * 3])
