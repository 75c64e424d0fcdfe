"""The win rate at equal length, against another implementation and against worlds whose truth is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evaluation.intervals import EvidenceError
from evaluation.length_control import PRIOR, fit, length_controlled_win_rate
from evaluation.win_rate import win_rate
from ratify.types import Label


def labels_of(gaps, outcomes):
    """Labels in which the new reply is `gap` words longer than the old one's 40."""
    words, labels = {}, []
    for number, (gap, outcome) in enumerate(zip(gaps, outcomes, strict=True)):
        words |= {f"n{number}": 40 + int(gap), f"o{number}": 40}
        labels.append(
            Label(
                prompt_id=f"p{number // 2}", a_id=f"n{number}", b_id=f"o{number}", outcome=outcome, probability=0.5,
                margin=0.0, by_principle={},
            )
        )  # fmt: skip
    return labels, words, {f"n{number}" for number in range(len(labels))}


def world(length_taste, quality, longer, pairs=2000, seed=0):
    """Pairs judged by length (log-odds per 10 words) and by quality (log-odds)."""
    generator = np.random.default_rng(seed)
    gaps = np.round(generator.normal(longer, 10, pairs))
    wins = generator.random(pairs) < 1 / (1 + np.exp(-(quality + length_taste * gaps / 10)))
    return labels_of(gaps, ["a" if win else "b" for win in wins])


def test_the_fit_is_that_of_scikit_learn_with_ties_as_two_halves() -> None:
    generator = np.random.default_rng(3)
    design = np.stack([np.ones(300), generator.normal(0, 1, 300)], axis=1)
    outcomes = generator.choice([0.0, 0.5, 1.0], 300, p=[0.2, 0.2, 0.6])
    doubled = np.concatenate([design, design])
    weights = np.concatenate([outcomes, 1 - outcomes])
    other = LogisticRegression(C=PRIOR**2, fit_intercept=False, tol=1e-10, max_iter=1000)
    other.fit(doubled, np.repeat([1, 0], 300), sample_weight=weights)
    centre, error = fit(design, outcomes, np.arange(300))
    assert centre == pytest.approx(other.coef_[0, 0], abs=1e-5) and error > 0


def test_a_judge_that_only_likes_length_leaves_one_half() -> None:
    labels, words, new = world(length_taste=1.0, quality=0.0, longer=8)
    found = length_controlled_win_rate(labels, new, words)
    assert win_rate(labels, new).estimate.low > 0.6
    assert found.low < 0.5 < found.high
    assert found.clusters == 1000 and found.n == 2000


def test_true_quality_survives_the_control() -> None:
    labels, words, new = world(length_taste=0.0, quality=0.6, longer=8)
    found = length_controlled_win_rate(labels, new, words)
    assert found.low < 1 / (1 + np.exp(-0.6)) < found.high and found.low > 0.5


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        found = length_controlled_win_rate(*_ordered(world(1.0, 0.3, 5, pairs=300, seed=seed)))
        held += found.low < 1 / (1 + np.exp(-0.3)) < found.high
    assert 180 <= held <= 199


def _ordered(made):
    labels, words, new = made
    return labels, new, words


def test_a_constant_length_is_the_plain_win_rate() -> None:
    labels, words, new = labels_of([0] * 100, ["a"] * 60 + ["b"] * 40)
    assert length_controlled_win_rate(labels, new, words).value == pytest.approx(0.6, abs=0.002)


def test_one_policy_that_always_wins_stays_finite() -> None:
    labels, words, new = labels_of([5] * 100, ["a"] * 100)
    found = length_controlled_win_rate(labels, new, words)
    assert 0.5 < found.low <= found.value < 1


def test_no_readable_verdict_is_no_evidence() -> None:
    labels, words, new = labels_of([5] * 10, ["failed"] * 10)
    with pytest.raises(EvidenceError, match="0 prompts"):
        length_controlled_win_rate(labels, new, words)
