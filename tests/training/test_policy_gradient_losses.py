"""Losses of policy gradients: plain loops in float64, gradients by enumeration, and the KL gradients that are right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from training.losses.policy_gradient import (
    clipped_surrogate,
    clipped_value,
    is_clipped,
    kl_loss,
    kl_value,
    ratio,
    truncated_importance,
)


def draws(seed: int, count: int = 40) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dual", [None, 3.0])
def test_clipped_surrogate_equals_a_plain_loop(dual: float | None) -> None:
    rho, advantage = draws(0).exp() ** 2, draws(1)
    expected = []
    for r, a in zip(rho.tolist(), advantage.tolist(), strict=True):
        gain = min(r * a, min(max(r, 0.8), 1.28) * a)
        if dual is not None and a < 0:
            gain = max(gain, dual * a)
        expected.append(-gain)
    assert_close(clipped_surrogate(rho, advantage, 0.2, 0.28, dual), torch.tensor(expected, dtype=torch.float64))


def test_clip_stops_the_gradient_exactly_where_it_says() -> None:
    rho = (draws(2).exp() ** 2).requires_grad_()
    advantage = draws(3)
    clipped_surrogate(rho, advantage, 0.2, 0.28).sum().backward()
    assert rho.grad is not None
    assert torch.equal(rho.grad == 0, is_clipped(rho.detach(), advantage, 0.2, 0.28))


def test_surrogate_at_ratio_one_has_the_policy_gradient() -> None:
    new = draws(4).requires_grad_()
    advantage = draws(5)
    clipped_surrogate(ratio(new, new.detach()), advantage, 0.2, 0.2).sum().backward()
    assert new.grad is not None
    assert_close(new.grad, -advantage)


def test_clipped_value_equals_a_plain_loop() -> None:
    value, old, target = draws(6), draws(7), draws(8)
    expected = [
        0.5 * max((v - t) ** 2, (o + min(max(v - o, -0.2), 0.2) - t) ** 2)
        for v, o, t in zip(value.tolist(), old.tolist(), target.tolist(), strict=True)
    ]
    assert_close(clipped_value(value, old, target, 0.2), torch.tensor(expected, dtype=torch.float64))
    assert_close(clipped_value(value, old, target, None), 0.5 * (value - target) ** 2)


def test_ratio_is_finite_however_far_policies_are_apart() -> None:
    assert ratio(torch.tensor([0.0, -900.0]), torch.tensor([-900.0, 0.0])).isfinite().all()


POLICY = torch.tensor([0.3, -0.4, 0.8, 0.0], dtype=torch.float64)
REFERENCE = torch.tensor([0.1, 0.5, 0.15, 0.25], dtype=torch.float64).log()


def test_kl_estimators_have_the_values_of_their_definitions() -> None:
    log_pi = POLICY.log_softmax(0)
    exact = float((log_pi.exp() * (log_pi - REFERENCE)).sum())
    for name in ("k1", "k3"):
        assert float((log_pi.exp() * kl_value(log_pi, REFERENCE, name)).sum()) == pytest.approx(exact)  # type: ignore[arg-type]
    one = kl_value(torch.tensor([-1.0]), torch.tensor([-1.5]), "k3")
    assert float(one) == pytest.approx(math.exp(-0.5) - 1 + 0.5)
    assert float(kl_value(torch.tensor([-1.0]), torch.tensor([-1.5]), "k2")) == pytest.approx(0.125)
    for name in ("k1", "k2", "k3"):
        assert not kl_value(log_pi, log_pi, name).any()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["k1", "k2", "k3", "k3_plain"])
def test_gradient_of_the_kl_term_is_that_of_the_reverse_kl(name: str) -> None:
    """Enumerated over all four tokens. GRPO's published form has another gradient, that of KL(π_ref‖π)."""
    logits = POLICY.clone().requires_grad_()
    log_pi = logits.log_softmax(0)
    (log_pi.exp() * (log_pi - REFERENCE)).sum().backward()
    assert logits.grad is not None
    exact, logits.grad = logits.grad.clone(), None
    log_pi = logits.log_softmax(0)
    (log_pi.detach().exp() * kl_loss(log_pi, REFERENCE, name)).sum().backward()  # type: ignore[arg-type]
    if name == "k3_plain":
        forward = log_pi.detach().exp() - REFERENCE.exp()  # ∇ of KL(π_ref‖π) by the logits
        assert_close(logits.grad, forward)
        assert (logits.grad - exact).norm() > 0.05
    else:
        assert_close(logits.grad, exact)


def test_truncated_importance_by_hand() -> None:
    trainer = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    weights = truncated_importance(trainer, torch.tensor([-1.0, -3.0, -0.5]), 2.0)
    assert weights.tolist() == pytest.approx([1.0, 2.0, math.exp(-0.5)]) and not weights.requires_grad
