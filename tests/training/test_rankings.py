"""Reward likelihoods beyond Bradley-Terry, calibration and normalisation: by hand and against plain loops."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.testing import assert_close

from ratify.errors import InputError, TrainingError
from ratify.sections import RewardModelSection
from training.data import Element, Pair
from training.losses.ranking import davidson, plackett_luce
from training.losses.reward import bradley_terry
from training.models import load_encoder, reward_model_from
from training.normalisation import fold, moments
from training.pairs import calibration_error, margins, require_margins
from training.rankings import ranked, ranking
from training.reward_model import RewardObjective
from training.scorers import RewardScorer
from training.tree import TokenBatch, token_batch


def element(completions: int, pairs: list[tuple[int, int, float]], weight: float = 1.0) -> Element:
    made = tuple(Pair(c, r, q, 2.0, weight) for c, r, q in pairs)
    return Element("p", (1, 2), tuple((3 + k,) for k in range(completions)), made)


class Fixed(nn.Module):
    """Gives rewards that were put in."""

    def __init__(self, rewards: Tensor) -> None:
        super().__init__()
        self.rewards = rewards

    def forward(self, batch: TokenBatch) -> Tensor:
        return self.rewards


def objective_mean(section: RewardModelSection, elements: list[Element], rewards: Tensor) -> float:
    objective = RewardObjective(section)
    terms = objective.terms(Fixed(rewards), elements, token_batch(elements, "padded"))
    return float(terms.loss_sum) / sum(map(objective.weight, elements))


def test_plackett_luce_by_hand() -> None:
    """Rewards log 3, log 2, log 1 in that order: P = 3/6 · 2/3 = ⅓, loss log 3; padding behind does not count."""
    rewards = torch.tensor([[math.log(3), math.log(2), 0.0, 99.0], [math.log(3), 0.0, 7.0, 7.0]], requires_grad=True)
    loss = plackett_luce(rewards, torch.tensor([3, 2]))
    assert_close(loss.detach(), torch.tensor([math.log(3), -math.log(0.75)]))
    loss.sum().backward()
    assert rewards.grad is not None and torch.isfinite(rewards.grad).all() and rewards.grad[0, 3] == 0


def test_plackett_luce_is_a_probability_over_all_rankings() -> None:
    """Σ over the 24 orders of exp(−loss) is 1; a slow loop gives each one's loss."""
    reward = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    total = 0.0
    for order in itertools.permutations(range(4)):
        slow = -sum(math.log(math.exp(reward[k]) / sum(math.exp(reward[j]) for j in order[i:]))
                    for i, k in enumerate(order))  # fmt: skip
        fast = plackett_luce(reward[list(order)][None], torch.tensor([4]))
        assert float(fast) == pytest.approx(slow)
        total += math.exp(-slow)
    assert total == pytest.approx(1.0)


def test_davidson_by_hand_and_sums_to_one() -> None:
    """d = log 4, ν = 1: weights 2, ½, 1, so P = 4/7, 1/7, 2/7."""
    d, nought = torch.tensor([math.log(4)]), torch.zeros(1)
    for q, p in ((1.0, 4 / 7), (0.0, 1 / 7), (0.5, 2 / 7)):
        assert_close(davidson(d, nought, torch.tensor([q]), 1.0), torch.tensor([-math.log(p)]))
    soft = 0.8 * -math.log(4 / 7) + 0.2 * -math.log(1 / 7)
    assert_close(davidson(d, nought, torch.tensor([0.8]), 1.0), torch.tensor([soft]))
    assert float(davidson(torch.tensor([400.0]), nought, torch.tensor([1.0]), 1.0)) == pytest.approx(0.0, abs=1e-6)


def test_davidson_with_rare_ties_is_bradley_terry() -> None:
    chosen, q = torch.linspace(-3, 3, 7, dtype=torch.float64), torch.full((7,), 0.8, dtype=torch.float64)
    nought = torch.zeros(7, dtype=torch.float64)
    assert_close(davidson(chosen, nought, q, 1e-12), bradley_terry(chosen, nought, q))


def test_kwise_counts_prompts_and_bradley_terry_counts_pairs() -> None:
    """Prompt 1: three pairs of loss a, b, c; prompt 2: one pair of loss d. (a+b+c+d)/4 against ((a+b+c)/3 + d)/2."""
    elements = [element(3, [(0, 1, 1.0), (0, 2, 1.0), (1, 2, 1.0)]), element(2, [(1, 0, 0.7)])]
    rewards = torch.tensor([1.0, 0.5, -1.0, 0.3, 0.1])

    def pair_loss(chosen: float, rejected: float, q: float) -> float:
        d = chosen - rejected
        return q * math.log1p(math.exp(-d)) + (1 - q) * math.log1p(math.exp(d))

    a, b, c, d = pair_loss(1, 0.5, 1), pair_loss(1, -1, 1), pair_loss(0.5, -1, 1), pair_loss(0.1, 0.3, 0.7)
    by_pair = objective_mean(RewardModelSection(centering=0), elements, rewards)
    by_prompt = objective_mean(RewardModelSection(centering=0, likelihood="kwise"), elements, rewards)
    assert by_pair == pytest.approx((a + b + c + d) / 4)
    assert by_prompt == pytest.approx(((a + b + c) / 3 + d) / 2)


def test_rows_count_by_their_weight() -> None:
    elements = [element(2, [(0, 1, 1.0)], weight=3.0), element(2, [(0, 1, 1.0)])]
    rewards = torch.tensor([0.0, 0.0, math.log(3), 0.0])
    expected = (3 * math.log(2) - math.log(0.75)) / 4
    for likelihood in ("bradley_terry", "kwise", "plackett_luce"):
        section = RewardModelSection(centering=0, likelihood=likelihood)
        assert objective_mean(section, elements, rewards) == pytest.approx(expected), likelihood


def test_margin_is_subtracted_and_must_be_there() -> None:
    """Margin 2 times scale ½: the pair at difference 1 sits at log 2."""
    elements = [element(2, [(0, 1, 1.0)])]
    section = RewardModelSection(centering=0, margin_scale=0.5)
    assert objective_mean(section, elements, torch.tensor([1.0, 0.0])) == pytest.approx(math.log(2))
    require_margins(elements, "here")
    assert margins(elements, torch.device("cpu")).tolist() == [2.0]
    bare = [elements[0]._replace(pairs=(Pair(0, 1, 1.0, None),))]
    with pytest.raises(InputError, match="needs a margin above 0 in every row, and a row of prompt p has None"):
        require_margins(bare, "reward_model.margin_scale")


def test_ranking_needs_exactly_one_order() -> None:
    assert ranking(element(3, [(2, 0, 1.0), (0, 1, 0.9)])) == [2, 0, 1]  # a chain is enough
    assert ranking(element(3, [(0, 2, 0.2), (0, 1, 0.9)])) == [2, 0, 1]  # a label below ½ turns its pair round
    assert ranking(element(3, [(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)])) is None  # a cycle
    assert ranking(element(3, [(0, 1, 1.0), (0, 2, 1.0)])) is None  # who is second?
    assert ranking(element(2, [(0, 1, 0.5)])) is None  # a tie
    with pytest.raises(InputError, match="use likelihood = 'kwise'"):
        ranked([element(2, [(0, 1, 0.5)])])


def test_calibration_error_by_hand() -> None:
    """Four pairs at p = ¾, three of them right: 0. All right: ¼. A pair read backwards counts as its mirror image."""
    gap = math.log(3)
    three = [element(2, [(0, 1, 1.0)])] * 3 + [element(2, [(0, 1, 0.0)])]
    four = [element(2, [(0, 1, 1.0)])] * 4
    values = [torch.tensor([gap, 0.0])] * 4
    assert calibration_error(values, three) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(values, four) == pytest.approx(0.25, abs=1e-6)
    mirrored = [element(2, [(1, 0, 1.0)])] * 4
    assert calibration_error(values, mirrored) == pytest.approx(0.75, abs=1e-6)


def test_labels_drawn_from_the_model_are_calibrated() -> None:
    draw = random.Random(1)
    gaps = [draw.gauss(0, 2) for _ in range(4000)]
    elements = [element(2, [(0, 1, float(draw.random() < 1 / (1 + math.exp(-gap))))]) for gap in gaps]
    exact = calibration_error([torch.tensor([gap, 0.0]) for gap in gaps], elements)
    boastful = calibration_error([torch.tensor([4 * gap, 0.0]) for gap in gaps], elements)
    assert exact < 0.03 < 0.1 < boastful


def test_normalised_rewards_have_mean_0_and_sd_1(policy_folder: Path) -> None:
    model = reward_model_from(str(policy_folder), load_encoder(str(policy_folder)), seed=0)
    elements = [Element(f"p{k}", (5, 6 + k), ((9, k + 10), (11 + k,))) for k in range(6)]
    batch = token_batch(elements, "padded")
    with torch.no_grad():
        before = RewardScorer(model)(batch)
        found = moments([before])
        fold(model, found)
        after = RewardScorer(model)(batch)
    assert_close(after, (before - found.mean) / found.sd, rtol=1e-4, atol=1e-5)
    assert float(after.mean()) == pytest.approx(0, abs=1e-5)
    assert float(after.std(correction=0)) == pytest.approx(1, rel=1e-4)
    assert model.config.to_dict()["reward_scale"] == found.sd
    with pytest.raises(TrainingError, match="all equal"):
        moments([torch.zeros(3)])


def test_settings_of_another_likelihood_die_at_load() -> None:
    with pytest.raises(ValidationError, match="tie_strength is set and likelihood is 'kwise'.*likelihood = 'davidson'"):
        RewardModelSection(likelihood="kwise", tie_strength=1.0)
    with pytest.raises(ValidationError, match="margin_scale is set and likelihood is 'davidson'"):
        RewardModelSection(likelihood="davidson", margin_scale=1.0)
    assert not set(RewardModelSection().model_dump()) & {"likelihood", "margin_scale", "tie_strength", "normalise"}
