"""Small versions of the drift experiments."""

import numpy as np
import pytest

from bench.drift import cusum, first_at, judge_detectors, reward_alarms, z_tests
from bench.drift_worlds import CHECKS, SLICE, judged_gold, mixed_prompts
from evaluation.e_cusum import ARL, e_cusum_path


def test_looking_every_hundred_is_wrong_in_most_streams_and_the_e_cusum_in_few() -> None:
    """The known rates are 74 %, 60 % and 5 %; 200 streams are within ten points of them."""
    right, known = np.random.default_rng(0).random((200, 2000)) < 0.85, np.full(200, 0.85)
    assert z_tests(right, known).rate()[0] > 120 and cusum(right, known, 4.0).rate()[0] > 95
    assert first_at(e_cusum_path(right, 0.85), ARL).rate()[0] <= 25


@pytest.mark.parametrize("fault", ["random", "length", "position"])
def test_a_fifth_of_the_labels_flipped_is_seen_and_none_is_not(fault: str) -> None:
    found = judge_detectors(judged_gold(40, 0.2, fault, ramp=False))["ratify drift"]  # type: ignore[arg-type]
    assert found.rate(500)[0] >= 38 and 0 < (found.delay(500) or 0) < 400
    assert judge_detectors(judged_gold(40, 0.0, "random", ramp=False))["ratify drift"].rate()[0] <= 6


def test_flips_cost_seven_tenths_of_their_share_whichever_labels_they_are() -> None:
    for fault in ("random", "length", "position"):
        stream = judged_gold(200, 0.1, fault, ramp=False)  # type: ignore[arg-type]
        before, after = stream.right[:, : 5 * SLICE].mean(), stream.right[:, 5 * SLICE :].mean()
        assert stream.right.shape == (200, CHECKS * SLICE)
        assert before - after == pytest.approx(0.07, abs=0.01)


def test_mixed_prompts_share_none_with_the_reference() -> None:
    reference, current = mixed_prompts(0.1, 300, seed=1)
    assert len(reference) == len(current) == 300
    assert not set(reference) & set(current)


def test_a_reward_model_that_keeps_its_promise_seldom_alarms() -> None:
    assert reward_alarms(0.0, 200) <= 22 < 180 < reward_alarms(0.2, 200)
