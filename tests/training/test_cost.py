"""Costs worked by hand, and counted by torch."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ratify.sections import SupervisedSection
from training.cost import Plan, Shape, Work, achieved, forward_flops, peak_bytes, peak_flops, sentence, training_flops
from training.data import Element
from training.engine import Engine
from training.estimate import epoch_work, shape_of, work_of
from training.scorers import PolicyScorer, RewardScorer
from training.supervised import SupervisedObjective
from training.tree import token_batch

SHAPE = Shape(1000, 1000, body=600, head=200, layers=2, hidden=10, attention=12, key_value=4, intermediate=20)


def test_flops_by_hand() -> None:
    """Rows of 3 and 5 tokens, head at 4: 2·(600·8 + 200·4) = 11,200 and attention 4·2·12·(9 + 25) = 3,264."""
    assert forward_flops(SHAPE, Work(8, 34, 4)) == 11_200 + 3_264
    assert training_flops(SHAPE, Work(8, 34, 4)) == 3 * 14_464


def test_memory_by_hand() -> None:
    """States 16·1000; a layer keeps 40 + 36 + 12 + 80 = 168 values a token; 20 logits a token, three float32 copies."""
    assert peak_bytes(SHAPE, 5) == 16_000 + 5 * 2 * 168 * 4
    assert peak_bytes(SHAPE, 5, value_bytes=2, chunk_logits=10**6) == 16_000 + 5 * 2 * 168 * 2 + 3 * 4 * 5 * 20
    assert peak_bytes(SHAPE, 5, chunk_logits=7) == peak_bytes(SHAPE, 5) + 3 * 4 * 7
    assert peak_bytes(SHAPE, 5, recomputed=True) == 16_000 + 5 * (2 * 10 + 168) * 4
    assert peak_bytes(SHAPE._replace(trained=100), 0) == 4 * 900 + 16 * 100


def test_work_of_a_tree_and_of_padded_rows() -> None:
    """Prompt of 3, completions of 2 and 4: one row of 9, or rows of 5 and 7."""
    element = Element("p", (1, 2, 3), ((4, 5), (6, 7, 8, 9)))
    assert work_of([element], "tree", by_token=True) == Work(9, 81, 6)
    assert work_of([element], "padded", by_token=False) == Work(12, 74, 2)


def test_padding_is_counted_as_the_engine_cuts() -> None:
    """Lengths 9 and 5 in one micro-batch are 18 padded tokens; a budget of 9 computes each alone, 14."""
    elements = [Element(str(n), (1,) * (n - 1), ((2,),)) for n in (9, 5)]
    whole = SupervisedSection(batch_prompts=2)
    assert epoch_work(elements, whole, 0, "tree", "cpu") == (18, 18)
    assert epoch_work(elements, whole.model_copy(update={"tokens_per_micro_batch": 9}), 0, "tree", "cpu") == (14, 9)


@pytest.mark.parametrize("kind", ["policy", "reward"])
def test_formula_agrees_with_torchs_own_count(kind: str, tiny_model: Callable[..., Any]) -> None:
    """The layout is one padded-free row. torch counts causal attention whole, as the formula does, and no norm."""
    model = tiny_model(attn_implementation="eager")
    if kind == "reward":
        model.score = nn.Linear(16, 1, bias=False)
    scorer = PolicyScorer(model) if kind == "policy" else RewardScorer(model)
    draw = random.Random(0)
    element = Element("p", tuple(draw.choices(range(9, 200), k=60)), (tuple(draw.choices(range(9, 200), k=40)),))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        scorer(token_batch([element], "tree"))
    work = work_of([element], "tree", by_token=kind == "policy")
    assert forward_flops(shape_of(scorer), work) == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_peaks_are_found_by_whole_words() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peak_flops("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", "float32") == 19.5e12
    assert peak_flops("NVIDIA L40S", "bfloat16") == 362e12 and peak_flops("NVIDIA L4", "bfloat16") == 121e12
    assert peak_flops("NVIDIA GeForce RTX 2060", "bfloat16") is None


def test_utilisation_is_given_only_where_the_peak_is_known() -> None:
    assert achieved(3e12, 2.0, 1e13) == {"train/gflops_per_s": 1500.0, "train/flop_utilisation": 0.15}
    assert achieved(3e12, 2.0, None) == {"train/gflops_per_s": 1500.0}
    assert achieved(0.0, 2.0, None) == {}


def test_plan_is_one_sentence() -> None:
    plan = Plan(1_500_000, 20_000, 21_000, 6e12, 2.0**29, flops_per_s=5e10)
    assert plan.seconds == 120.0
    assert sentence(plan.metrics()) == (
        "1.5 M parameters; 20,000 tokens an epoch (21,000 with padding); 6.0e+12 FLOPs; about 0.50 GiB besides the "
        "libraries; about 2 minutes at the speed of a first micro-batch"
    )


def test_training_announces_its_cost_and_reports_its_speed(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    """Probing for the speed leaves no gradient, so the first step's loss and norm are as ever."""
    elements = [Element(f"p{k}", (5, 6, 7), (tuple(range(8, 12 + k)),)) for k in range(6)]
    engine = Engine(SupervisedSection(batch_prompts=3, epochs=2, threads=1), seed=0, out=tmp_path)
    scorer = PolicyScorer(tiny_model())
    fit = engine.fit(scorer, elements, SupervisedObjective())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    cost = next(line for line in lines if line["phase"] == "cost")
    tokens = sum(3 + 4 + k for k in range(6))
    assert cost["cost/tokens_per_epoch"] == tokens and cost["cost/padded_tokens_per_epoch"] >= tokens
    work = work_of(elements, "tree", by_token=True)
    assert cost["cost/flops"] == pytest.approx(2 * training_flops(shape_of(scorer), work))
    # The figure has three decimals, which on a busy machine are few.
    reached = cost["cost/flops"] / fit.seconds / 1e9
    assert fit.metrics()["train/gflops_per_s"] == pytest.approx(reached, rel=1e-2, abs=6e-4)
    assert lines.index(cost) < next(index for index, line in enumerate(lines) if "loss" in line)


def test_resumed_training_plans_what_is_left(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    """Two of three steps are done in an epoch of equal elements: a third of the FLOPs is left."""
    elements = [Element(f"p{k}", (5, 6, 7), ((8, 9),)) for k in range(6)]
    engine = Engine(SupervisedSection(batch_prompts=2), seed=0, out=tmp_path)
    scorer = PolicyScorer(tiny_model())
    whole, rest = (engine._plan(scorer, elements, done) for done in (0, 2))
    assert rest.flops == pytest.approx(whole.flops / 3) and rest.tokens_per_epoch == whole.tokens_per_epoch
