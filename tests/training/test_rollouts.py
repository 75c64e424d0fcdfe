"""Sampling with transformers: recorded log-probabilities are the trainer's, ends are found, seeds repeat."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import GenerationConfig

from tests.training.rollout_models import tiny_policy
from training.rollouts import Group, PromptItem, Sampled, TransformersSampler
from training.scorers import PolicyScorer
from training.tree import token_batch

ITEMS = [PromptItem("a", "", (1, 4)), PromptItem("b", "", (5, 6, 2, 7, 3)), PromptItem("c", "", (4,))]


def sampler(model: Any, **settings: Any) -> TransformersSampler:
    return TransformersSampler(model, [2, 0], **{"max_tokens": 6, "temperature": 0.7, **settings})


def test_sampled_log_probabilities_are_those_of_the_trainer() -> None:
    """At temperature 0.7, prompts of different lengths padded on the left, pad equal to an end token."""
    model = tiny_policy(9)
    groups = [Group(item, found) for item, found in zip(ITEMS, sampler(model).sample(ITEMS, 5, 1), strict=True)]
    batch = token_batch([group.element for group in groups], "tree")
    with torch.no_grad():
        trainer = PolicyScorer(model, 0.7)(batch).token_M
    recorded = [logprob for group in groups for one in group.completions for logprob in one.logprobs]
    assert_close(torch.tensor(recorded), trainer, rtol=1e-4, atol=1e-5)


def test_completions_end_behind_the_first_end_token_or_are_cut_off() -> None:
    found = [one for group in sampler(tiny_policy(9)).sample(ITEMS, 20, 1) for one in group]
    assert {one.finish_reason for one in found} == {"stop", "length"}
    for one in found:
        assert len(one.tokens) == len(one.logprobs) >= 1
        if one.finish_reason == "stop":
            assert one.tokens[-1] in (0, 2) and not {0, 2} & set(one.tokens[:-1])
        else:
            assert len(one.tokens) == 6 and not {0, 2} & set(one.tokens)


def test_samples_are_a_function_of_the_seed_and_leave_the_generator_alone() -> None:
    model = tiny_policy(9)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = sampler(model).sample(ITEMS, 3, 1)
    assert torch.equal(torch.rand(1), expected)
    assert sampler(model).sample(ITEMS, 3, 1) == one != sampler(model).sample(ITEMS, 3, 2)


def test_the_models_own_generation_settings_do_not_bend_the_distribution() -> None:
    """top_k = 1 in generation_config.json would sample one reply only; afterwards the settings are there again."""
    model = tiny_policy(9)
    model.generation_config = GenerationConfig(top_k=1, do_sample=True, repetition_penalty=5.0)
    found = sampler(model, max_tokens=1).sample([ITEMS[0]], 50, 1)[0]
    assert len({one.tokens for one in found}) > 3
    assert model.generation_config.top_k == 1


def test_frequencies_are_those_of_the_model() -> None:
    """4,000 draws of one token; each share within four standard errors of its probability."""
    model = tiny_policy(5)
    drawn = sampler(model, max_tokens=1, temperature=1.0, batch=4000).sample([ITEMS[0]], 4000, 1)[0]
    share = torch.bincount(torch.tensor([one.tokens[0] for one in drawn]), minlength=5) / 4000
    with torch.no_grad():
        expected = model(torch.tensor([ITEMS[0].tokens])).logits[0, -1].softmax(-1)
    assert ((share - expected).abs() < 4 * (expected * (1 - expected) / 4000).sqrt()).all()


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_group_is_one_element(reason: Any) -> None:
    group = Group(ITEMS[0], (Sampled((3, 2), (-1.0, -2.0), reason), Sampled((3, 2), (-1.0, -2.0), reason)))
    assert group.element.completions == ((3, 2), (3, 2)) and group.element.prompt == (1, 4)
