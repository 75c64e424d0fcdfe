"""The prefix tree computes what separate sequences compute."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import Qwen2ForSequenceClassification

from training.data import Element
from training.layout import check_logits, choose_layout, configuration_obstacle
from training.logprobs import token_entropy, token_logprobs
from training.scorers import PolicyScorer, RewardScorer
from training.tree import Layout, footprint, token_batch, tree_mask

MakeModel = Callable[..., Any]


def random_elements(count: int = 4, seed: int = 0) -> list[Element]:
    """Elements with one to four completions of one to nine tokens."""
    draw = random.Random(seed)

    def tokens(longest: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, 264) for _ in range(draw.randint(1, longest)))

    return [Element(f"p{n}", tokens(12), tuple(tokens(9) for _ in range(draw.randint(1, 4)))) for n in range(count)]


def slow_logprobs(model: torch.nn.Module, elements: list[Element], temperature: float = 1.0) -> torch.Tensor:
    """One forward of the whole model for each completion, one token after the other."""
    sums = []
    for element in elements:
        for completion in element.completions:
            ids = torch.tensor([[*element.prompt, *completion]])
            logprob = (model(input_ids=ids).logits[0].double() / temperature).log_softmax(-1)
            start = len(element.prompt)
            sums.append(sum(logprob[start + i - 1, token] for i, token in enumerate(completion)))
    return torch.stack(sums).float()


def test_mask_hides_sibling_completions() -> None:
    """Prompt of two, completions of two and one: the last token sees the prompt and itself only."""
    mask = tree_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_logprobs_equal_separate_sequences(family: str, layout: Layout, tiny_model: MakeModel) -> None:
    model, elements = tiny_model(family), random_elements()
    with torch.no_grad():
        fast = PolicyScorer(model)(token_batch(elements, layout))
        assert_close(fast.sum_N, slow_logprobs(model, elements), rtol=1e-5, atol=1e-5)
    assert fast.count_N.tolist() == [len(c) for e in elements for c in e.completions]


def gradients(model: Any, layout: Layout) -> dict[str, torch.Tensor]:
    elements = random_elements(seed=1)
    sums = PolicyScorer(model)(token_batch(elements, layout)).sum_N
    (sums * torch.linspace(-1, 1, len(sums))).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gradients_equal_padded_layout(attention: str, tiny_model: MakeModel) -> None:
    tree = gradients(tiny_model(attn_implementation=attention), "tree")
    padded = gradients(tiny_model(), "padded")
    for name, gradient in padded.items():
        assert (tree[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_temperature_divides_the_logits(tiny_model: MakeModel) -> None:
    model, elements = tiny_model(), random_elements()
    with torch.no_grad():
        warm = PolicyScorer(model, temperature=0.7)(token_batch(elements, "tree")).sum_N
        assert_close(warm, slow_logprobs(model, elements, temperature=0.7), rtol=1e-5, atol=1e-5)


def test_chunked_projection_equals_whole() -> None:
    """Chunks of two tokens (5 does not divide by 2) give the same values and gradients."""
    head = torch.nn.Linear(4, 7)
    target = torch.tensor([0, 6, 3, 1, 2])
    results = []
    for chunk in (10**6, 14):
        hidden = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        values = token_logprobs(hidden, target, head, chunk_logits=chunk)
        values.sum().backward()
        results.append((values.detach(), hidden.grad))
    assert_close(results[0], results[1])


def test_reward_is_read_at_the_last_completion_token(tiny_model: MakeModel) -> None:
    """Ending in eos, cut off without it, and with pad = eos = 2: always the head's value at the last real token."""
    model = tiny_model()
    model.config.num_labels, model.config.pad_token_id = 1, 2
    reward_model = Qwen2ForSequenceClassification(model.config).eval()
    elements = [
        Element("mixed", (5, 6, 7), ((8, 9, 2), (10, 11), (12, 2, 2), (13,))),
        Element("longer", (5, 6, 7, 8, 9, 10), ((8, 9, 30, 31, 32, 33, 2),)),
    ]
    with torch.no_grad():
        slow = []
        for element in elements:
            for completion in element.completions:
                hidden = reward_model.model(torch.tensor([[*element.prompt, *completion]])).last_hidden_state
                slow.append(reward_model.score(hidden[0, -1])[0])
        for layout in ("tree", "padded"):
            assert_close(RewardScorer(reward_model)(token_batch(elements, layout)), torch.stack(slow))


def test_footprint_counts_the_shared_prompt_once() -> None:
    element = Element("p", (1, 2, 3), ((4,), (5, 6)))
    assert footprint(element, "tree") == (1, 6)
    assert footprint(element, "padded") == (2, 5)


def test_models_that_cannot_take_a_tree_fall_back(tiny_model: MakeModel) -> None:
    assert choose_layout(tiny_model(), "tree", 64) == "packed"
    sliding = tiny_model(use_sliding_window=True, sliding_window=8, max_window_layers=0)
    assert "window of 8" in (configuration_obstacle(sliding.config, 64) or "")
    assert configuration_obstacle(sliding.config, 8) is None
    assert choose_layout(sliding, "tree", 64) == "padded"
    linear = tiny_model().config
    linear.layer_types = ["linear_attention", "full_attention"]
    assert "linear_attention" in (configuration_obstacle(linear, 64) or "")


def test_own_logits_equal_the_models(tiny_model: MakeModel) -> None:
    check_logits(PolicyScorer(tiny_model("llama")))


def test_entropy_in_chunks_equals_the_definition_with_its_gradient() -> None:
    """−Σ p·log p at temperature 0.7 for seven states, one projection or seven."""
    hidden = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(4, 11).double()
    logits = (head(hidden).float() / 0.7).double()
    probability = torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True)
    expected = -(probability * torch.log(probability)).sum(-1)
    (gradient,) = torch.autograd.grad(expected.sum(), hidden)
    for chunk in (1, 10**6):
        values = token_entropy(hidden, head, 0.7, chunk)
        assert_close(values.double(), expected, rtol=1e-5, atol=1e-6)
        assert_close(torch.autograd.grad(values.sum(), hidden)[0], gradient, rtol=1e-4, atol=1e-6)
