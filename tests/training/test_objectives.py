"""The preference objectives: by hand, against a plain loop over sequences, against TRL's numbers, at their optimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from ratify.sections import OBJECTIVE_KNOBS, ObjectiveName, PreferenceSection
from training.losses.absolute import apo_down, apo_zero, kto, log_odds, orpo, supervised
from training.losses.preference import conservative_dpo, dpo, hinge, ipo, log_offset, odpo, robust_dpo, simpo
from training.objectives import OBJECTIVES, Completions, Sides

NAMES = get_args(ObjectiveName)
BASELINE = 0.7


def sigmoid(value: float) -> float:
    """The textbook form, for oracles only."""
    return 1 / (1 + math.exp(-value))


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_margin_losses_by_hand() -> None:
    """Rewards log 3 and 0, so h = log 3 = 1.098612, σ(h) = ¾, ℓ(h) = 0.287682, ℓ(−h) = −log ¼ = 1.386294; q = 1.

    cdpo, ε = ¼: ¾·0.287682 + ¼·1.386294 = 0.562335.
    robust, ε = ¼: (¾·0.287682 − ¼·1.386294)/½ = −0.261624.
    odpo with offset log 3: log 2. ipo, β = ½: (2.197225 − 1)² = 1.433347. hinge: max(0, 1 − 1.098612) = 0,
    reversed 2.098612. simpo with γ = log 3: log 2.
    """
    high, low, sure = one(math.log(3)), one(0.0), one(1.0)
    assert_close(conservative_dpo(high, low, sure, 0.25), one(0.562335), atol=1e-6, rtol=0)
    assert_close(robust_dpo(high, low, sure, 0.25), one(-0.261624), atol=1e-6, rtol=0)
    assert_close(odpo(high, low, sure, log_offset(one(3.0), 1.0)), one(math.log(2)))
    assert_close(ipo(high, low, sure, 0.5), one(1.433347), atol=1e-6, rtol=0)
    assert_close(hinge(high, low, sure), one(0.0))
    assert_close(hinge(low, high, sure), one(2.098612), atol=1e-6, rtol=0)
    assert_close(simpo(high, low, sure, math.log(3)), one(math.log(2)))


def test_absolute_losses_by_hand() -> None:
    """Rewards log 3 and 0: σ = ¾ and ½.

    kto, z = 0, λ_D = 2, λ_U = 1: ½·(2·¼ + ½) = ½. apo_zero: ¼ + ½ = ¾. apo_down: ¾ + ¼ = 1.
    orpo with P = ½ (odds 1) and ¼ (odds ⅓), λ = 2: log 2 − 2·log σ(log 3) = 0.693147 + 0.575364 = 1.268511.
    supervised with q = ¾: ¾·log 2 + ¼·log 4 = 0.866434.
    """
    high, low, sure = one(math.log(3)), one(0.0), one(1.0)
    assert_close(kto(high, low, sure, 0.0, desirable_weight=2.0), one(0.5))
    assert_close(kto(high, low, sure, math.log(3)), one(0.5 * (0.5 + 0.25)))
    assert_close(apo_zero(high, low, sure), one(0.75))
    assert_close(apo_down(high, low, sure), one(1.0))
    half, quarter = one(math.log(0.5)), one(math.log(0.25))
    assert_close(orpo(half, quarter, sure, 2.0), one(1.268511), atol=1e-6, rtol=0)
    assert_close(supervised(half, quarter, one(0.75)), one(0.866434), atol=1e-6, rtol=0)


def test_log_odds_holds_near_certainty_and_at_nought() -> None:
    logprob = torch.tensor([-1e-12, -1e-3, -50.0, 0.0], dtype=torch.float64, requires_grad=True)
    odds = log_odds(logprob)
    assert_close(odds[1], torch.tensor(math.log(math.exp(-1e-3) / (1 - math.exp(-1e-3))), dtype=torch.float64))
    assert_close(odds[2], torch.tensor(-50.0, dtype=torch.float64))
    odds.sum().backward()
    assert torch.isfinite(odds).all() and torch.isfinite(logprob.grad).all()


class Data(NamedTuple):
    """Six pairs from a fixed formula: log-probabilities of whole completions, lengths, labels, margins."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    tokens_chosen: Tensor
    tokens_rejected: Tensor
    probability: Tensor
    margin: Tensor


def data() -> Data:
    i = torch.arange(6, dtype=torch.float64)
    return Data(
        chosen=-10 - 3 * torch.sin(1.3 * i + 0.2),
        rejected=-11 - 4 * torch.cos(0.7 * i),
        reference_chosen=-10.5 - 2 * torch.cos(i),
        reference_rejected=-10 - 3 * torch.sin(0.9 * i + 1),
        tokens_chosen=torch.tensor([4.0, 6, 5, 9, 7, 3], dtype=torch.float64),
        tokens_rejected=torch.tensor([5.0, 3, 8, 6, 4, 7], dtype=torch.float64),
        probability=0.5 + 0.08 * i,
        margin=0.2 + 0.5 * i,
    )


def section_for(name: str, beta: float = 0.3) -> PreferenceSection:
    knobs = {"label_smoothing": 0.2, "offset_scale": 1.5, "desirable_weight": 1.2, "undesirable_weight": 0.8}
    mine = {key: value for key, value in knobs.items() if name in OBJECTIVE_KNOBS[key].objectives}
    return PreferenceSection(objective=name, beta=beta, **mine)


def registered(name: ObjectiveName, d: Data, section: PreferenceSection, probability: Tensor) -> Tensor:
    """The registry's loss as the task computes it: completions of all pairs, then both sides."""
    completions = Completions(
        torch.cat([d.chosen, d.rejected]),
        torch.cat([d.reference_chosen, d.reference_rejected]),
        torch.cat([d.tokens_chosen, d.tokens_rejected]),
    )
    chosen, rejected = OBJECTIVES[name].reward(completions, section.beta).chunk(2)
    return OBJECTIVES[name].loss(Sides(chosen, rejected, probability, d.margin, BASELINE), section)


class One(NamedTuple):
    """One completion, in plain numbers."""

    logprob: float
    reference: float
    tokens: float

    @property
    def ratio(self) -> float:
        return self.logprob - self.reference

    @property
    def odds(self) -> float:
        p = math.exp(self.logprob / self.tokens)
        return p / (1 - p)


def naive(name: str, win: One, lose: One, margin: float, k: PreferenceSection) -> float:
    """The paper's loss of one pair whose winner is known; a reversed pair brings a negative margin."""
    b = k.beta
    h = b * (win.ratio - lose.ratio)
    if name in ("dpo", "cdpo", "robust"):
        eps = 0.0 if name == "dpo" else k.knob("label_smoothing")
        right, wrong = -math.log(sigmoid(h)), -math.log(sigmoid(-h))
        if name == "robust":
            return ((1 - eps) * right - eps * wrong) / (1 - 2 * eps)
        return (1 - eps) * right + eps * wrong
    per_token = win.ratio / win.tokens - lose.ratio / lose.tokens
    offset = math.copysign(1, margin) * k.knob("offset_scale") * math.log(abs(margin))
    z = b * BASELINE
    up, down = k.knob("desirable_weight"), k.knob("undesirable_weight")
    log_odds_ratio = math.log(win.odds / lose.odds)
    return {
        "ipo_sum": lambda: (h / b - 1 / (2 * b)) ** 2,
        "ipo_mean": lambda: (per_token - 1 / (2 * b)) ** 2,
        "odpo": lambda: -math.log(sigmoid(h - offset)),
        "hinge": lambda: max(0.0, 1 - h),
        "simpo": lambda: (
            -math.log(sigmoid(b * win.logprob / win.tokens - b * lose.logprob / lose.tokens - k.knob("target_margin")))
        ),
        "kto": lambda: (up * (1 - sigmoid(b * win.ratio - z)) + down * (1 - sigmoid(z - b * lose.ratio))) / 2,
        "apo_zero": lambda: 1 - sigmoid(b * win.ratio) + sigmoid(b * lose.ratio),
        "apo_down": lambda: sigmoid(b * win.ratio) + 1 - sigmoid(h),
        "orpo": lambda: -win.logprob / win.tokens - b * math.log(sigmoid(log_odds_ratio)),
    }[name]()


@pytest.mark.parametrize("name", NAMES)
def test_objective_equals_plain_loop_with_soft_labels(name: ObjectiveName) -> None:
    d, section = data(), section_for(name)
    expected = []
    for c, r, rc, rr, nc, nr, q, m in zip(*(column.tolist() for column in d), strict=True):
        chosen, rejected = One(c, rc, nc), One(r, rr, nr)
        right, wrong = naive(name, chosen, rejected, m, section), naive(name, rejected, chosen, -m, section)
        expected.append(q * right + (1 - q) * wrong)
    assert_close(registered(name, d, section, d.probability), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_objective_is_right(name: ObjectiveName) -> None:
    d = data()
    section = section_for(name)

    def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
        return registered(name, d._replace(chosen=chosen, rejected=rejected), section, d.probability)

    inputs = (d.chosen.clone().requires_grad_(), d.rejected.clone().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


TRL = {
    "dpo": [0.238053343, 0.722271086, 0.797427702, 0.488017655, 0.467708781, 0.816378589],
    "hinge": [0.0, 1.057423559, 1.198706201, 0.536508897, 0.483043039, 1.232929349],
    "ipo_mean": [0.483791549, 2.23549514, 3.421594582, 2.141333926, 1.95374063, 3.260293687],
    "robust": [-0.199904562, 0.741412273, 0.863663102, 0.333520621, 0.295389794, 0.894021705],
    "apo_zero": [0.683379759, 1.013809723, 1.048524925, 0.884747852, 0.872667603, 1.05809092],
    "apo_down": [0.850878823, 0.910016153, 0.950543221, 0.958754747, 0.984988068, 1.04693036],
    "simpo": [0.597240829, 0.01059486, 2.111107131, 0.365911825, 0.335191068, 5.906471065],
}
"""TRL 1.16.0 on torch 2.13.0 in float64 on the inputs of `data()` with hard labels: the branches `sigmoid`, `hinge`,
`ipo`, `robust`, `apo_zero`, `apo_down` of `DPOTrainer._compute_loss` (β = 0.3, label_smoothing = 0.2) and
`CPOTrainer.cpo_loss` with `simpo` (β = 2, simpo_gamma = 0.5, average log-probabilities)."""
TRL_ORPO_TERM = [-0.157147795, -0.020807056, -0.369785756, -0.096311666, -0.099152572, -0.947791636]
"""`ORPOTrainer.odds_ratio_loss` of the same release, β = 0.3: β·log σ(log odds ratio), to be subtracted."""
TRL_KTO = {
    "chosen": [0.410669691, 0.653297172, 0.648209345, 0.479398195, 0.439472819, 0.563202026],
    "rejected": [0.278346952, 0.359821137, 0.398319713, 0.405876761, 0.432009996, 0.494690633],
}
"""`chosen_losses` and `rejected_losses` of `KTOTrainer._compute_loss` of the same release, β = 0.3, kl = 0.7."""


@pytest.mark.parametrize("name", TRL)
def test_objective_equals_trl(name: ObjectiveName) -> None:
    d = data()
    section = section_for(name, beta=2.0 if name == "simpo" else 0.3)
    ours = registered(name, d, section, torch.ones(6, dtype=torch.float64))
    assert_close(ours, torch.tensor(TRL[name], dtype=torch.float64), atol=2e-9, rtol=0)


def test_kto_and_the_odds_ratio_of_orpo_equal_trl() -> None:
    d = data()
    sure = torch.ones(6, dtype=torch.float64)
    expected = torch.tensor([TRL_KTO["chosen"], TRL_KTO["rejected"]], dtype=torch.float64).mean(0)
    ours = registered("kto", d, PreferenceSection(objective="kto", beta=0.3), sure)
    assert_close(ours, expected, atol=2e-9, rtol=0)
    term = registered("orpo", d, section_for("orpo"), sure) + d.chosen / d.tokens_chosen
    assert_close(term, -torch.tensor(TRL_ORPO_TERM, dtype=torch.float64), atol=1e-7, rtol=0)  # TRL: float32 inside


def test_robust_loss_is_unbiased_under_flipped_labels() -> None:
    """E over flips with probability ε: (1−ε)·L(c, r) + ε·L(r, c) is DPO's loss on the true label."""
    d = data()
    chosen, rejected, sure = d.chosen, d.rejected, torch.ones(6, dtype=torch.float64)
    mean = 0.7 * robust_dpo(chosen, rejected, sure, 0.3) + 0.3 * robust_dpo(rejected, chosen, sure, 0.3)
    assert_close(mean, dpo(chosen, rejected, sure))


Optimum = Callable[[Tensor, Tensor, Tensor], Tensor]


def optimise(loss: Optimum, reference: Tensor, beta: float) -> Tensor:
    """Minimise the mean loss over all ordered pairs of a three-armed bandit; returns log π."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    first, second = (torch.tensor(side) for side in ([0, 0, 1], [1, 2, 2]))
    solver = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure() -> float:
        solver.zero_grad()
        reward = beta * (logits.log_softmax(0) - reference)
        value = loss(reward[first], reward[second], TRUE_REWARD[first] - TRUE_REWARD[second]).mean()
        value.backward()
        return float(value.detach())

    solver.step(closure)
    return logits.detach().log_softmax(0)


TRUE_REWARD = torch.tensor([1.0, 0.2, -0.7], dtype=torch.float64)
REFERENCE = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_bandit_reaches_the_closed_form_optimum(beta: float) -> None:
    """Labels of Bradley-Terry, q = σ(r_i − r_j): DPO's optimum is π_ref·exp(r/β)/Z (arXiv 2305.18290, equation 4).

    So it is for ODPO with half the difference as offset and labels of the other half, and IPO reaches the policy whose
    log-ratio differences are (2q − 1)/(2β) where those are consistent: with preferences made linear in a score s,
    2q − 1 = s_i − s_j, it is π_ref·exp(s/(2β))/Z.
    """
    closed = (REFERENCE + TRUE_REWARD / beta).log_softmax(0)
    found = optimise(lambda c, r, gap: dpo(c, r, gap.sigmoid()), REFERENCE, beta)
    assert float((found.exp() * (found - closed)).sum()) < 1e-9
    offset = optimise(lambda c, r, gap: odpo(c, r, (gap / 2).sigmoid(), gap / 2), REFERENCE, beta)
    assert float((offset.exp() * (offset - closed)).sum()) < 1e-9
    linear = optimise(lambda c, r, gap: ipo(c, r, (1 + gap / 2) / 2, beta), REFERENCE, beta)
    expected = (REFERENCE + TRUE_REWARD / 2 / (2 * beta)).log_softmax(0)
    assert float((linear.exp() * (linear - expected)).sum()) < 1e-9


def test_every_objective_has_a_loss() -> None:
    assert set(OBJECTIVES) == set(NAMES)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"label_smoothing": 0.1}, "objective is 'dpo', which has no such setting; .* 'cdpo' or objective = 'robust'"),
        ({"objective": "hinge", "offset_scale": 2.0}, "offset_scale is set and objective is 'hinge'"),
        ({"objective": "simpo"}, "set beta"),
        ({"objective": "orpo", "supervised_weight": 1.0}, "has that term already"),
        ({"objective": "cdpo", "label_smoothing": 0.5}, "less than 0.5"),
        ({"objective": "ppo"}, "'dpo', 'cdpo'"),
    ],
)
def test_knob_of_another_objective_dies_at_load(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PreferenceSection(**settings)


def test_unset_knobs_leave_no_trace_in_dumps() -> None:
    """Results that were made before a knob existed keep their fingerprint."""
    assert not set(PreferenceSection().model_dump()) & {*OBJECTIVE_KNOBS, "supervised_weight"}
    tuned = PreferenceSection(objective="kto", undesirable_weight=0.0)
    assert PreferenceSection.model_validate_json(tuned.model_dump_json()).knob("undesirable_weight") == 0.0
