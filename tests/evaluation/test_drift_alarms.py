"""Alarms against slow loops and hand-worked numbers, and their rates where nothing has drifted."""

import numpy as np
import pytest

from evaluation.drift_tests import against_repeats, holm, mcnemar, mcnemar_detectable, mcnemar_false_alarms
from evaluation.e_cusum import bets, detectable_drop, e_cusum_path, e_process_path, false_alarms, watch


def test_every_bet_is_fair_at_the_promised_mean_and_no_value_ruins_it() -> None:
    for mean in (0.3, 0.6, 0.85, 0.99):
        lost, won = 1 + bets(mean) * (mean - 1), 1 + bets(mean) * mean
        assert mean * lost + (1 - mean) * won == pytest.approx(np.ones(5))
        assert (lost >= 0.1 - 1e-9).all()


def test_paths_are_those_of_a_plain_loop() -> None:
    values, mean = np.random.default_rng(0).random(80), 0.7
    cusum, process = np.ones(5), np.ones(5)
    expected = []
    for value in values:
        factor = 1 + bets(mean) * (mean - value)
        cusum, process = np.maximum(cusum, 1) * factor, process * factor
        expected.append((cusum.mean(), process.mean()))
    found = np.stack([e_cusum_path(values, mean), e_process_path(values, mean)], axis=1)
    assert found == pytest.approx(np.array(expected))
    together = e_cusum_path(np.stack([values, values[::-1]]), np.array([0.7, 0.6]))
    assert together[0] == pytest.approx(found[:, 0])
    assert together[1] == pytest.approx(e_cusum_path(values[::-1], 0.6))


def test_the_e_process_is_wrong_in_one_of_twenty_streams_at_most_and_the_e_cusum_seldom() -> None:
    """Ville: 5 % of 400 is 20 with a standard deviation of 4.4; the run length of 2,000 is met on average."""
    streams = np.random.default_rng(1).random((400, 2000)) < 0.85
    assert (e_process_path(streams, 0.85).max(axis=1) >= 20).sum() <= 33
    assert (e_cusum_path(streams, 0.85).max(axis=1) >= 2000).mean() <= 0.15


def test_a_fall_is_seen_late_in_a_stream_too() -> None:
    good, bad = np.random.default_rng(2).random(1000) < 0.85, np.random.default_rng(3).random(600) < 0.70
    found = watch(np.concatenate([good, bad]), 0.85)
    assert found.alarm_at and 1000 < found.alarm_at < 1400
    assert watch(good, 0.85).alarm_at is None


def test_a_value_outside_0_and_1_is_refused() -> None:
    for wrong in ([0.5, 1.5], [float("nan")]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            e_cusum_path(wrong, 0.5)


def test_printed_rates_of_the_stream_are_measured_ones() -> None:
    assert false_alarms(0.85, 2000.0, 2000) <= 0.15
    assert 0.05 < (detectable_drop(0.85, 2000.0) or 0) <= 0.10
    assert detectable_drop(0.85, 2000.0, 5) is None, "five values show nothing"


def test_mcnemar_is_the_sign_test_of_what_changed() -> None:
    """8 lost and 1 won: p = 2 (C(9,0) + C(9,1)) / 2^9 = 20 / 512."""
    before = [True] * 8 + [False] + [True] * 20
    now = [False] * 8 + [True] + [True] * 20
    found = mcnemar(before, now)
    assert (found.lost, found.won, found.pairs) == (8, 1, 29)
    assert found.p_value == pytest.approx(20 / 512)
    assert mcnemar([True, False], [True, False]).p_value == 1.0


def test_mcnemar_on_a_thousand_pairs_sees_a_flip_of_five_in_a_hundred() -> None:
    """The known power: 1,000 pairs see 5 % beside 4 % of noise, 200 pairs do not."""
    assert mcnemar_false_alarms(1000, 0.04, 0.05) <= 0.06
    large, small = mcnemar_detectable(1000, 0.04, 0.05), mcnemar_detectable(200, 0.04, 0.05)
    assert large and small and large <= 0.05 < small


def test_holm_goes_down_step_by_step() -> None:
    """0.01 ≤ 0.05 / 3; 0.03 > 0.05 / 2 stops it, so 0.04 ≤ 0.05 does not count."""
    assert holm([0.04, 0.01, 0.03], 0.05) == [False, True, False]
    assert holm([0.01, 0.02, 0.04], 0.05) == [True, True, True]
    assert holm([float("nan"), 0.01], 0.05) == [False, True]


def test_repeats_are_compared_by_student_and_not_by_the_normal() -> None:
    """Mean 2, s 1, √(1 + 1/3): t = 1.732 with two degrees of freedom, p = 0.2254."""
    found = against_repeats([1.0, 2.0, 3.0], 0.0, 0.05)
    assert found.t == pytest.approx(np.sqrt(3)) and found.p_value == pytest.approx(0.22540, abs=1e-4)
    draws = np.random.default_rng(4).normal(size=(2000, 6))
    each = [against_repeats(row[:5], float(row[5]), 0.05) for row in draws]
    assert 0.03 < np.mean([one.p_value <= 0.05 for one in each]) < 0.07
    assert np.mean([abs(one.t) > 1.96 for one in each]) > 0.09


def test_repeats_without_any_spread_alarm_on_any_change() -> None:
    assert against_repeats([2.0, 2.0], 2.0, 0.05).p_value == 1.0
    assert against_repeats([2.0, 2.0], 1.0, 0.05).p_value == 0.0
    with pytest.raises(ValueError, match="two are needed"):
        against_repeats([2.0], 1.0, 0.05)
