"""Intervals against closed forms, slow loops and simulated coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from evaluation.intervals import (
    EvidenceError,
    Resampling,
    bca,
    cluster_sums,
    difference,
    mean,
    proportion,
    quantile,
    ratio,
    resampled_sums,
    student,
    wilson,
)


def test_wilson_by_hand() -> None:
    """8 of 10 at 95 %: z = 1.96, centre (0.8 + 0.19208) / 1.38416 = 0.71674, half 0.22656."""
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)


def test_wilson_solves_its_defining_equation() -> None:
    """Both ends p satisfy |share - p| = z sqrt(p (1 - p) / n)."""
    for end in wilson(37, 120, 0.9):
        assert abs(37 / 120 - end) == pytest.approx(stats.norm.ppf(0.95) * math.sqrt(end * (1 - end) / 120))


def test_wilson_keeps_width_where_nothing_or_everything_succeeds() -> None:
    assert wilson(0, 20).low == 0.0
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20).high == 1.0


def test_student_by_hand() -> None:
    """1, 2, 3: mean 2, s 1, t(2) = 4.3027, half 4.3027 / sqrt 3 = 2.4841."""
    found = student([1.0, 2.0, 3.0])
    assert (found.value, found.low, found.high) == pytest.approx((2.0, -0.4841, 4.4841), abs=1e-4)


def test_sums_by_cluster() -> None:
    sums = cluster_sums([[1, 2, 3], [1, 1, 1]], ["p", "q", "p"])
    assert sums.tolist() == [[4.0, 2.0], [2.0, 1.0]]


def test_clusters_in_an_array_are_those_in_a_list() -> None:
    clusters, values = np.array([7, 3, 7, -1, 3, 9]), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    sums = cluster_sums([values, np.ones(6)], clusters)
    assert (sums == cluster_sums([values, np.ones(6)], clusters.tolist())).all()
    assert sums.tolist() == [[5.0, 2.0], [18.0, 2.0], [8.0, 1.0], [32.0, 1.0]]


def test_resampled_sums_equal_a_plain_loop() -> None:
    sums = np.random.default_rng(0).normal(size=(13, 2))
    how = Resampling(draws=50, seed=3)
    generator = np.random.default_rng(3)
    slow = []
    for _ in range(50):
        total = [0.0, 0.0]
        for index in generator.integers(0, 13, size=13):
            total[0] += sums[index, 0]
            total[1] += sums[index, 1]
        slow.append(total)
    np.testing.assert_allclose(resampled_sums(sums, how), slow)


def test_parts_of_draws_equal_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = np.random.default_rng(1).normal(size=(11, 3))
    whole = resampled_sums(sums, Resampling(draws=40, seed=9))
    monkeypatch.setattr("ratify.intervals.HELD_LIMIT", 100)
    monkeypatch.setattr("ratify.intervals.DRAWN_AT_ONCE", 50)
    np.testing.assert_allclose(resampled_sums(sums, Resampling(draws=40, seed=9)), whole)


def test_bca_agrees_with_scipy() -> None:
    """SciPy's BCa at the levels that the small-sample widening asks for."""
    sample = np.random.default_rng(5).lognormal(size=60)
    low, high = bca(np.stack([sample, np.ones(60)], axis=1), lambda s: s[..., 0] / s[..., 1], Resampling(draws=20_000))
    wide = 2 * stats.norm.cdf(math.sqrt(60 / 59) * stats.t.ppf(0.975, 59)) - 1
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="BCa", confidence_level=wide, rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_normal_data_match_the_closed_form() -> None:
    values = np.random.default_rng(2).normal(size=400)
    found = mean(values, range(400), Resampling(draws=8000))
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.008)


def test_copies_within_a_prompt_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(4).normal(size=50)
    once = mean(values, range(50))
    fivefold = mean(np.repeat(values, 5), np.repeat(np.arange(50), 5).tolist())
    assert (fivefold.low, fivefold.high) == pytest.approx((once.low, once.high))
    assert (fivefold.n, fivefold.clusters) == (250, 50)


def test_paired_difference_is_narrower_than_its_parts() -> None:
    generator = np.random.default_rng(6)
    prompt = generator.normal(0, 3, 80)
    old, new = prompt + generator.normal(0, 0.3, 80), prompt + 0.5 + generator.normal(0, 0.3, 80)
    change = difference(new, range(80), old, range(80))
    assert change.value == pytest.approx(new.mean() - old.mean())
    assert change.high - change.low < 0.3
    assert mean(new, range(80)).high - mean(new, range(80)).low > 1.0


def test_ratio_of_sums_by_hand() -> None:
    assert ratio([3.0, 5.0], [10, 30], ["p", "q"]).value == pytest.approx(0.2)


def test_shares_without_spread_get_wilson_on_the_clusters() -> None:
    found = mean([1.0] * 30, [number // 3 for number in range(30)], share=True)
    assert (found.low, found.high) == pytest.approx(tuple(wilson(10, 10)))


def test_difference_without_spread_gets_newcombe() -> None:
    found = difference([1.0] * 10, range(10), [1.0] * 10, range(10), share=True)
    reach = 1 - wilson(10, 10).low
    assert (found.low, found.high) == pytest.approx((-reach, reach))


def test_one_cluster_has_no_interval() -> None:
    found = mean([0.0, 1.0], ["p", "p"])
    assert (found.value, found.low, found.high) == (0.5, None, None)


@pytest.mark.filterwarnings("error")
def test_a_figure_that_hangs_on_every_single_cluster_has_no_interval() -> None:
    found = difference([0.5], ["p"], [0.2], ["q"])
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), None, None)


def test_quantile_equals_a_slow_loop() -> None:
    generator = np.random.default_rng(8)
    values = generator.integers(0, 40, 60).astype(float)
    prompts = [f"p{number // 4}" for number in range(60)]
    found = quantile(values, prompts, 0.95, Resampling(draws=300, seed=2))
    draws = []
    names, rows = sorted(set(prompts), key=prompts.index), np.random.default_rng(2).integers(0, 15, size=(300, 15))
    for row in rows:
        pool = sorted(v for index in row for v, prompt in zip(values, prompts, strict=True) if prompt == names[index])
        draws.append(pool[math.ceil(0.95 * len(pool) - 1e-9) - 1])
    assert found.value == sorted(values)[56]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


@pytest.mark.parametrize("compute", [lambda: mean([], []), lambda: proportion(0, 0), lambda: student([])])
def test_nothing_observed_is_no_evidence(compute) -> None:
    with pytest.raises(EvidenceError):
        compute()


def test_zero_denominators_are_no_evidence() -> None:
    with pytest.raises(EvidenceError, match="not defined"):
        ratio([1.0, 2.0], [0, 0], ["p", "q"])


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=30)
    assert mean(values, range(30)) == mean(values, range(30))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_coverage_of_clustered_shares(rate: float) -> None:
    """Two replies per prompt that resemble each other, 60 prompts, 400 trials: 95 % within three standard errors."""
    generator = np.random.default_rng(10)
    hits = 0
    for _ in range(400):
        chance = generator.beta(2 * rate, 2 * (1 - rate), 60)
        replies = (generator.random((60, 2)) < chance[:, None]).astype(float)
        found = mean(replies.ravel(), np.repeat(np.arange(60), 2).tolist(), Resampling(draws=500), share=True)
        hits += found.low <= rate <= found.high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400) <= hits / 400 <= 0.985


def test_coverage_of_a_paired_difference_under_no_change() -> None:
    generator = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        prompt = generator.normal(size=50)
        old, new = prompt + generator.normal(size=50), prompt + generator.normal(size=50)
        found = difference(new, range(50), old, range(50), Resampling(draws=500))
        hits += found.low <= 0 <= found.high
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400) <= hits / 400 <= 0.985
