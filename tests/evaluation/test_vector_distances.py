"""Vectors against slow loops, Vendi against its n × n definition and closed forms, two-sample tests on known truth."""

import itertools

import numpy as np
import pytest

from evaluation.dispersion import (
    across_prompt_dispersion,
    compared_across_prompts,
    compared_per_prompt,
    per_prompt_dispersion,
    vendi_score,
)
from evaluation.hashed_features import hashed_features
from evaluation.intervals import EvidenceError
from evaluation.two_samples import classifier_accuracy, fourier_features, mmd, pairs_by_prompt
from evaluation.vocabulary import Vocabulary
from evaluation.word_stream import word_stream
from tests.evaluation.test_diversity import random_texts


def unit(count: int, size: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_hashed_cosines_are_those_of_the_counts() -> None:
    """a b and a c: 3 features each, one in common, so 1/3; with 2^16 places no collision moves it."""
    stream = word_stream(["a b", "a c", "", "A  b"], range(4), Vocabulary())
    cosines = hashed_features(stream, 1 << 16) @ hashed_features(stream, 1 << 16).T
    assert cosines[0, 1] == pytest.approx(1 / 3)
    assert cosines[0, 3] == pytest.approx(1)
    assert not cosines[2].any()


def test_words_past_the_opening_do_not_count() -> None:
    head = random_texts(1, 128, 50)[0]
    first, second = hashed_features(word_stream([head, f"{head} more and more"], [0, 1], Vocabulary()))
    assert first @ second == pytest.approx(1)


def test_dispersion_equals_a_loop_over_pairs() -> None:
    vectors, prompts = unit(30, 5), np.arange(30) // 3 * 7
    within = {
        name: np.mean(
            [1 - vectors[a] @ vectors[b] for a, b in itertools.combinations(np.flatnonzero(prompts == name), 2)]
        )
        for name in np.unique(prompts)
    }
    names, found = per_prompt_dispersion(vectors, prompts)
    assert dict(zip(names.tolist(), found, strict=True)) == pytest.approx(within)
    across = [1 - vectors[a] @ vectors[b] for a, b in itertools.combinations(range(30), 2) if prompts[a] != prompts[b]]
    assert across_prompt_dispersion(vectors, prompts) == pytest.approx(np.mean(across))


def test_collapse_within_prompts_is_not_collapse_across_them() -> None:
    """The new policy says one thing to each prompt, another to every prompt."""
    prompts, group = np.arange(160) // 4, np.arange(40) % 8
    old, new = unit(160, 64), np.repeat(unit(40, 64, seed=1), 4, axis=0)
    within = compared_per_prompt((old, prompts), (new, prompts))
    across = compared_across_prompts((old, prompts), (new, prompts), group)
    assert within.new.value == pytest.approx(0) and within.difference.high < -0.9
    assert across.difference.low < 0 < across.difference.high


def test_vendi_by_closed_forms() -> None:
    """Equal replies 1; m orthogonal ones m; two unit vectors of cosine c have eigenvalues (1 ± c) / 2."""
    assert vendi_score(np.tile(np.eye(8)[0], (50, 1))) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(6), 9, axis=0)) == pytest.approx(6)
    shares = np.array([0.8, 0.2])
    assert vendi_score(np.array([[1, 0], [0.6, 0.8]])) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_vendi_equals_the_kernel_of_all_pairs() -> None:
    vectors = unit(300, 40)
    shares = np.linalg.eigvalsh(vectors @ vectors.T / 300)
    shares = shares[shares > 1e-12]
    assert vendi_score(vectors) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_fourier_features_estimate_the_gaussian_kernel() -> None:
    vectors = unit(20, 6)
    gaps = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    found = fourier_features(vectors, 0.9, features=40_000)
    assert found @ found.T == pytest.approx(np.exp(-gaps / (2 * 0.81)), abs=0.03)


def test_replies_are_paired_within_their_prompt() -> None:
    first, second = pairs_by_prompt(np.array([4, 2, 4, 9]), np.array([2, 2, 4, 7]))
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 2), (1, 0)]


def paired_sides(seed: int, shift: float) -> tuple:
    """Replies that depend strongly on their prompt; the new side is moved a little along one direction."""
    generator = np.random.default_rng(seed)
    prompts = np.arange(120) // 2
    centre = np.repeat(generator.normal(size=(60, 10)), 2, axis=0) * 3
    old, new = (centre + generator.normal(size=(120, 10)) for _ in range(2))
    new[:, 0] += shift
    return (old, prompts), (new, prompts)


def test_mmd_is_calibrated_on_paired_prompts_and_sees_a_shift() -> None:
    """200 nulls at 5 %: 2 to 20 rejections (probability 0.998), by p and by what chance reaches; the shift is small
    beside the spread of prompts."""
    nulls = [mmd(*paired_sides(seed, 0.0), permutations=99) for seed in range(200)]
    assert 2 <= sum(each.p_value <= 0.05 for each in nulls) <= 20
    assert 2 <= sum(each.statistic > each.by_chance for each in nulls) <= 20
    assert np.mean([each.p_value for each in nulls]) == pytest.approx(0.5, abs=0.08)
    shifted = mmd(*paired_sides(1, 1.0))
    assert shifted.p_value <= 0.01 and shifted.statistic > 2 * shifted.by_chance
    assert (shifted.pairs, shifted.clusters) == (120, 60)


def test_the_classifier_tells_policies_apart_only_where_they_differ() -> None:
    equal = classifier_accuracy(*paired_sides(3, 0.0))
    apart = classifier_accuracy(*paired_sides(3, 3.0))
    assert equal.low < 0.5 < equal.high
    assert apart.low > 0.9
    assert (apart.n, apart.clusters) == (120, 60)


def test_identical_replies_are_one_half() -> None:
    old, _ = paired_sides(0, 0.0)
    assert classifier_accuracy(old, old).value == 0.5
    assert mmd(old, old).p_value == 1.0


def test_too_few_prompts_are_no_evidence() -> None:
    few = (unit(4, 3), np.arange(4))
    with pytest.raises(EvidenceError, match="4 prompts"):
        mmd(few, few)
    with pytest.raises(EvidenceError):
        across_prompt_dispersion(unit(4, 3), np.zeros(4, dtype=int))
    with pytest.raises(EvidenceError):
        vendi_score(np.zeros((3, 4)))
