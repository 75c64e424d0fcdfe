"""The losses by hand and against slow loops in float64."""

from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from training.losses.preference import dpo, implicit_reward, kl_forward, kl_second_order
from training.losses.reward import bradley_terry, centering


def sigmoid(value: float) -> float:
    """The textbook form, for oracles only."""
    return 1 / (1 + math.exp(-value))


def test_bradley_terry_by_hand() -> None:
    """chosen − rejected = log 3, σ(log 3) = 3/4.

    Hard label: −log ¾ = 0.287682. Label ¾: −¾·log ¾ − ¼·log ¼ = 0.215762 + 0.346574 = 0.562335, its entropy.
    Margin log 3: the difference vanishes and the loss is log 2 = 0.693147 whatever the label.
    """
    chosen, rejected = torch.tensor([math.log(3.0)]), torch.tensor([0.0])
    assert_close(bradley_terry(chosen, rejected, torch.tensor([1.0])), torch.tensor([0.287682]), atol=1e-6, rtol=0)
    assert_close(bradley_terry(chosen, rejected, torch.tensor([0.75])), torch.tensor([0.562335]), atol=1e-6, rtol=0)
    with_margin = bradley_terry(chosen, rejected, torch.tensor([0.75]), margin_P=torch.tensor([math.log(3.0)]))
    assert_close(with_margin, torch.tensor([0.693147]), atol=1e-6, rtol=0)


def test_bradley_terry_equals_slow_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    chosen, rejected, margin = torch.randn(3, 20, generator=draw, dtype=torch.float64)
    label = torch.rand(20, generator=draw, dtype=torch.float64)
    slow = []
    for c, r, m, q in zip(chosen.tolist(), rejected.tolist(), margin.tolist(), label.tolist(), strict=True):
        slow.append(-q * math.log(sigmoid(c - r - m)) - (1 - q) * math.log(sigmoid(-(c - r - m))))
    assert_close(bradley_terry(chosen, rejected, label, margin), torch.tensor(slow, dtype=torch.float64))


def test_bradley_terry_survives_huge_differences() -> None:
    loss = bradley_terry(torch.tensor([1000.0, -1000.0]), torch.zeros(2), torch.ones(2))
    assert_close(loss, torch.tensor([0.0, 1000.0]))


def test_soft_label_is_where_the_loss_is_least() -> None:
    """d/dx of −q·log σ(x) − (1−q)·log σ(−x) is σ(x) − q, zero at x = log(q/(1−q)) = log 4 for q = 0.8."""
    logit = torch.tensor([math.log(4.0)], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    bradley_terry(logit, zero, torch.tensor([0.8], dtype=torch.float64)).sum().backward()
    assert_close(logit.grad, zero)


def test_centering_is_the_squared_sum() -> None:
    assert_close(centering(torch.tensor([2.0, 1.0]), torch.tensor([0.5, -1.0])), torch.tensor([6.25, 0.0]))


def test_dpo_by_hand() -> None:
    """β = 0.5; log-ratios 2·log 3 for chosen and 0 for rejected give h = log 3, hence −log ¾ = 0.287682.

    Conservative with ε = ¼ (label ¾) gives 0.562335, as for the reward model.
    """
    policy, reference = torch.tensor([-1.0, -5.0]), torch.tensor([-1.0 - 2 * math.log(3.0), -5.0])
    reward = implicit_reward(policy, reference, beta=0.5)
    assert_close(dpo(reward[:1], reward[1:], torch.ones(1)), torch.tensor([0.287682]), atol=1e-6, rtol=0)
    assert_close(dpo(reward[:1], reward[1:], torch.tensor([0.75])), torch.tensor([0.562335]), atol=1e-6, rtol=0)


def test_dpo_equals_slow_loop() -> None:
    draw = torch.Generator().manual_seed(1)
    policy_c, policy_r, reference_c, reference_r = -10 * torch.rand(4, 20, generator=draw, dtype=torch.float64)
    label = torch.rand(20, generator=draw, dtype=torch.float64)
    slow = []
    for index in range(20):
        h = 0.3 * (policy_c[index] - reference_c[index]) - 0.3 * (policy_r[index] - reference_r[index])
        q = float(label[index])
        slow.append(-q * math.log(sigmoid(float(h))) - (1 - q) * math.log(sigmoid(-float(h))))
    fast = dpo(implicit_reward(policy_c, reference_c, 0.3), implicit_reward(policy_r, reference_r, 0.3), label)
    assert_close(fast, torch.tensor(slow, dtype=torch.float64))


def test_kl_estimators_agree_on_a_known_distribution() -> None:
    """π_ref = (½, ½), π = (0.6, 0.4): KL(π_ref‖π) = ½·log(½/0.6) + ½·log(½/0.4) = 0.020411.

    k1 weighed by π_ref is exact; k2 is ½·(½·0.182322² + ½·0.223144²) = 0.020759, right to second order.
    """
    policy, reference = torch.tensor([0.6, 0.4]).log(), torch.tensor([0.5, 0.5]).log()
    assert_close(kl_forward(policy, reference).mean(), torch.tensor(0.020411), atol=1e-6, rtol=0)
    assert_close(kl_second_order(policy, reference).mean(), torch.tensor(0.020759), atol=1e-6, rtol=0)
