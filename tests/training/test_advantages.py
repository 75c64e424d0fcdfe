"""Advantages, reward shaping and KL control: slow loops, hand-worked numbers, and scores that are missing."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from training.advantages import ADVANTAGES, Knobs, Outcomes, advantages, gae, whiten
from training.kl_control import KLController
from training.reward_shaping import RunningMoments, token_rewards, without_end_penalty

LENGTHS = (5, 1, 7, 3)


def ragged(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and mask of four completions, with rubbish behind their ends in the values."""
    generator = torch.Generator().manual_seed(seed)
    reward, value = (torch.randn(4, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    return reward * mask, value, mask


def slow_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """Equation 16 as a double sum, with V = 0 behind the end."""
    last = [*values[1:], 0.0]
    delta = [r + gamma * after - v for r, v, after in zip(rewards, values, last, strict=True)]
    return [sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, len(delta))) for t in range(len(delta))]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_gae_equals_the_slow_double_sum(gamma: float, lam: float) -> None:
    reward, value, mask = ragged(0)
    found = gae(reward, value, mask, gamma, lam)
    for row, length in enumerate(LENGTHS):
        expected = slow_gae(reward[row, :length].tolist(), value[row, :length].tolist(), gamma, lam)
        assert_close(found[row, :length], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
        assert not found[row, length:].any()


def test_gae_with_lambda_one_is_return_minus_value() -> None:
    reward, value, mask = ragged(1)
    to_go = reward.flip(1).cumsum(1).flip(1)
    assert_close(gae(reward, value, mask, 1.0, 1.0), (to_go - value) * mask)


def outcomes(returns: list[float], groups: list[int], scored: list[bool] | None = None) -> Outcomes:
    """Completions of two tokens whose rewards sum to the returns."""
    half = torch.tensor(returns, dtype=torch.float64)[:, None] / 2
    kept = torch.tensor(scored or [True] * len(returns))
    mask = torch.ones(len(returns), 2, dtype=torch.bool)
    return Outcomes(half.expand(-1, 2), mask, kept, torch.tensor(groups))


RETURNS, GROUPS = [1.0, 2.0, 6.0, 4.0, 4.0], [0, 0, 0, 1, 1]
EXPECTED = {
    # R − mean of the others: 1 − 4, 2 − 3.5, 6 − 1.5.
    "rloo": [-3.0, -1.5, 4.5, 0.0, 0.0],
    "group_mean": [-2.0, -1.0, 3.0, 0.0, 0.0],
    "group_standardised": [value / (math.sqrt(7) + 1e-6) for value in (-2.0, -1.0, 3.0)] + [0.0, 0.0],
    "batch_mean": [-2.4, -1.4, 2.6, 0.6, 0.6],
    "moving_baseline": [-1.5, -0.5, 3.5, 1.5, 1.5],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_whole_completion_advantages_by_hand(name: str) -> None:
    found = advantages(name, outcomes(RETURNS, GROUPS), Knobs(baseline=2.5))  # type: ignore[arg-type]
    assert_close(found, torch.tensor(EXPECTED[name], dtype=torch.float64)[:, None].expand(-1, 2))


@pytest.mark.parametrize("name", [*EXPECTED, "gae"])
def test_missing_score_is_zero_and_moves_nobody_else(name: str) -> None:
    """With a fourth completion in each group that has no score the others' advantages are what they were."""
    full = outcomes([*RETURNS, 99.0, -99.0], [*GROUPS, 0, 1], [True] * 5 + [False] * 2)
    plain = outcomes(RETURNS, GROUPS)
    if name == "gae":
        full = full._replace(value_NT=torch.ones(7, 2, dtype=torch.float64))
        plain = plain._replace(value_NT=torch.ones(5, 2, dtype=torch.float64))
    found = advantages(name, full, Knobs(baseline=2.5))  # type: ignore[arg-type]
    assert not found[5:].any()
    assert_close(found[:5], advantages(name, plain, Knobs(baseline=2.5)))  # type: ignore[arg-type]


def test_a_completion_alone_in_its_group_has_no_advantage() -> None:
    for name in ("rloo", "group_mean", "group_standardised"):
        assert not advantages(name, outcomes([3.0, 1.0], [0, 1]), Knobs()).any()  # type: ignore[arg-type]


def test_every_estimator_is_tested() -> None:
    assert set(ADVANTAGES) == {*EXPECTED, "gae"}


def test_whitening_counts_only_what_counts() -> None:
    value = torch.tensor([[1.0, 2.0, 1e9], [6.0, 1e9, 1e9]], dtype=torch.float64)
    counted = torch.tensor([[True, True, False], [True, False, False]])
    white = whiten(value, counted)
    kept = [1.0, 2.0, 6.0]
    expected = [(x - 3) / statistics.pstdev(kept) for x in kept]
    assert_close(white[counted], torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-8)
    assert not white[~counted].any()
    unshifted = whiten(value, counted, shift_mean=False)
    assert float(unshifted[counted].mean()) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("case", "tokens", "finish"),
    [
        ("eos", [5, 6, 2], "stop"),
        ("no eos", [5, 6, 7], "length"),
        ("pad is eos", [5, 0], "stop"),
        ("pad token in the middle", [5, 0, 6, 0], "length"),
        ("eos at once", [2], "stop"),
    ],
)
def test_reward_lands_on_the_last_response_token(case: str, tokens: list[int], finish: str) -> None:
    """By length alone: rows are padded with token 0, which is also a token that completions may hold."""
    log_ratio = torch.zeros(2, 5)
    found = token_rewards(torch.tensor([3.0, 1.0]), log_ratio, torch.tensor([len(tokens), 5]), 0.1)
    expected = [0.0] * 5
    expected[len(tokens) - 1] = 3.0
    assert found[0].tolist() == expected, case
    assert found[1].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    penalised = without_end_penalty(torch.tensor([3.0]), torch.tensor([finish == "stop"]), 1.0)
    assert penalised.tolist() == [3.0 if finish == "stop" else 2.0]


def test_token_rewards_sum_to_score_minus_beta_times_log_ratio() -> None:
    log_ratio = torch.tensor([[0.5, -0.25, 100.0], [1.0, 2.0, 3.0]])
    found = token_rewards(torch.tensor([2.0, 0.0]), log_ratio, torch.tensor([2, 3]), 0.1)
    assert_close(found, torch.tensor([[-0.05, 2.025, 0.0], [-0.1, -0.2, -0.3]]))


def test_adaptive_coefficient_by_hand() -> None:
    """Ziegler's error is clipped to ±0.2; 100 of 10,000 completions move β by a hundredth of it."""
    controller = KLController(0.1, target=6.0, horizon=10_000)
    assert controller.updated(60.0, 100).value == pytest.approx(0.1 * (1 + 0.2 / 100))
    assert controller.updated(0.0, 100).value == pytest.approx(0.1 * (1 - 0.2 / 100))
    assert controller.updated(6.6, 100).value == pytest.approx(0.1 * (1 + 0.1 / 100))
    assert KLController(0.1).updated(60.0, 100).value == 0.1


def test_running_moments_equal_those_of_all_scores() -> None:
    scores = [1.0, 5.0, -2.0, 0.5, 0.5, 7.0]
    moments = RunningMoments().updated(scores[:2]).updated([]).updated(scores[2:])
    assert moments.mean == pytest.approx(statistics.mean(scores)) and moments.sd == pytest.approx(
        statistics.pstdev(scores)
    )
    assert RunningMoments().updated([2.0, 2.0]).sd == 1.0
    assert RunningMoments.of(moments._asdict()) == moments
