"""KTO's reference point, row weights and the supervised term inside the task: by hand, and whatever the micro-batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ratify.sections import PreferenceSection
from training.baseline import mismatched, with_mismatched
from training.data import Element, Pair
from training.engine import Engine
from training.logprobs import CompletionLogprobs
from training.preference import MISMATCHED, PreferenceObjective
from training.scorers import PolicyScorer
from training.tree import TokenBatch, token_batch


def elements_with_pairs(count: int) -> list[Element]:
    return [Element(f"p{k}", (5, 6 + k), ((7 + k, 8), (9 + k, 10, 11)), (Pair(0, 1, 1.0, 1.0),)) for k in range(count)]


def test_each_prompt_gets_a_completion_of_the_next_that_no_pair_names() -> None:
    elements = elements_with_pairs(3)
    changed = with_mismatched(elements, max_length=100)
    assert [e.completions[-1] for e in changed] == [(8, 8), (9, 8), (7, 8)]
    assert mismatched(changed, torch.device("cpu")).tolist() == [False, False, True] * 3
    assert with_mismatched(elements, max_length=3) == elements  # it does not fit
    assert with_mismatched(elements[:1], max_length=100) == elements[:1]  # there is no other prompt


class Fixed(nn.Module):
    """Gives log-probabilities that were put in; every completion has two tokens."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.sum_N = torch.tensor(values)

    def forward(self, batch: TokenBatch) -> CompletionLogprobs:
        return CompletionLogprobs(self.sum_N, self.sum_N, torch.full((len(self.sum_N),), 2))


def objective_for(elements: list[Element], **settings: Any) -> PreferenceObjective:
    reference = [torch.zeros(len(element.completions)) for element in elements]
    return PreferenceObjective(PreferenceSection(**settings), elements, reference)


def test_reference_point_is_the_mean_of_the_step_before_and_never_negative() -> None:
    """Mismatched log-ratios 1 and 3 give z₀ = 2 for the next step; the pairs' KL does not see them."""
    elements = with_mismatched(elements_with_pairs(2), max_length=100)
    objective = objective_for(elements, objective="kto", beta=1.0)
    scorer = Fixed([2.0, 0.0, 1.0, 2.0, 0.0, 3.0])
    terms = objective.terms(scorer, elements, token_batch(elements, "padded"))
    means = {name: float(mean.sum) / mean.weight for name, mean in terms.metrics.items()}
    assert means[MISMATCHED] == 2.0 and means["kl"] == pytest.approx((2 + 0) / 2)
    first = float(terms.loss_sum)
    objective.stop_reason(means)
    state = json.loads(json.dumps(objective.state()))
    again = objective_for(elements, objective="kto", beta=1.0)
    again.restore(state)
    second = float(again.terms(scorer, elements, token_batch(elements, "padded")).loss_sum)

    def by_hand(z: float) -> float:
        up, down = torch.sigmoid(torch.tensor(2.0 - z)), torch.sigmoid(torch.tensor(z - 0.0))
        return float((1 - up) + (1 - down))  # two pairs, half of each side

    assert first == pytest.approx(by_hand(0.0)) and second == pytest.approx(by_hand(2.0))
    objective.stop_reason({**means, MISMATCHED: -5.0})
    assert objective.state()["baseline"] == 0.0


def test_rows_count_by_weight_and_the_supervised_term_is_added() -> None:
    """Margins 0 (loss log 2) with weights 3 and 1; the term adds ½ · 2 nats (4 nats over two tokens) to each row."""
    elements = [
        e._replace(pairs=(Pair(0, 1, 1.0, None, w),)) for e, w in zip(elements_with_pairs(2), (3.0, 1.0), strict=True)
    ]
    plain = objective_for(elements)
    with_term = objective_for(elements, supervised_weight=0.5)
    batch, log2 = token_batch(elements, "padded"), float(torch.tensor(2.0).log())

    def loss(objective: PreferenceObjective, values: list[float]) -> Tensor:
        return objective.terms(Fixed(values), elements, batch).loss_sum

    assert [plain.weight(e) for e in elements] == [3.0, 1.0]
    assert float(loss(plain, [-4.0] * 4)) == pytest.approx(4 * log2)
    assert float(loss(with_term, [-4.0] * 4)) == pytest.approx(4 * (log2 + 1.0))


def test_kto_does_not_depend_on_micro_batches(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    found = []
    elements = with_mismatched(elements_with_pairs(6), max_length=100)
    reference = [torch.full((len(e.completions),), -15.0) for e in elements]
    for budget in (1, 4096):
        section = PreferenceSection(
            objective="kto", learning_rate=1e-3, epochs=2, batch_prompts=3, tokens_per_micro_batch=budget, threads=1
        )
        engine = Engine(section, seed=0, out=tmp_path / str(budget))
        engine.fit(PolicyScorer(tiny_model()), elements, PreferenceObjective(section, elements, reference))
        lines = (tmp_path / str(budget) / "metrics.jsonl").read_text().splitlines()
        found.append([m for line in lines if "loss" in (m := json.loads(line))])
    assert len(found[0]) == 4
    for one, other in zip(*found, strict=True):
        for key in ("loss", "grad_norm", "kl", MISMATCHED):
            assert one[key] == pytest.approx(other[key], rel=1e-4), key
