"""Packed trees: attention by branches and by FlexAttention, and a last layer computed where it is read."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from training.data import Element
from training.layout import choose_layout
from training.models import allow_recomputation
from training.scorers import PolicyScorer
from training.tree import Layout, token_batch, tree_mask
from training.tree_attention import ATTENTION, block_mask, by_blocks, by_branches, segments_of

MakeModel = Callable[..., Any]
SIZES = ((5, 3, 4), (2, 6), (7, 1, 1, 2))


def random_elements(seed: int = 0) -> list[Element]:
    """Five elements with one to four completions."""
    draw = random.Random(seed)

    def tokens(longest: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, 264) for _ in range(draw.randint(1, longest)))

    return [Element(f"p{n}", tokens(12), tuple(tokens(9) for _ in range(draw.randint(1, 4)))) for n in range(5)]


def one_by_one(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each tree of SIZES alone, under its dense mask, with keys repeated for the query heads."""
    outputs, start = [], 0
    for tree in SIZES:
        segment = torch.arange(len(tree)).repeat_interleave(torch.tensor(tree))
        part = slice(start, start := start + sum(tree))
        own = (tensor[:, :, part].repeat_interleave(4 // tensor.shape[1], 1) for tensor in (query, key, value))
        outputs.append(scaled_dot_product_attention(*own, attn_mask=tree_mask(segment[None]), scale=0.3))
    return torch.cat(outputs, 2)


@pytest.fixture
def flex_backward_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses FlexAttention's gradient on a CPU, where no fast kernel has one; the plain one is exact."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_tensors: None)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.usefixtures("flex_backward_on_cpu")
@pytest.mark.parametrize("way", ["branches", "blocks"])
def test_both_ways_equal_dense_attention_forward_and_backward(way: str) -> None:
    """In float64, with half as many key heads as query heads."""
    torch.manual_seed(0)
    total = sum(map(sum, SIZES))
    inputs = [torch.randn(1, heads, total, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]
    if way == "branches":
        output = by_branches(*inputs, SIZES, scaling=0.3)
    else:
        output = by_blocks(*inputs, block_mask(SIZES, torch.device("cpu")), scaling=0.3)
    expected, pull = one_by_one(*inputs), torch.randn(output.shape, dtype=torch.float64)
    assert_close(output, expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(each, inputs, pull) for each in (output, expected))
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_segments_know_their_prompts() -> None:
    segment, prompt = segments_of(((2, 1), (1, 2, 1)))
    assert segment.tolist() == [0, 0, 1, 2, 3, 3, 4]
    assert prompt.tolist() == [0, 0, 0, 2, 2, 2, 2]


def packed(model: Any) -> Any:
    """The model as the layout `packed` wants it."""
    assert choose_layout(model, "tree", 64) == "packed"
    return model


def gradients(model: Any, layout: Layout) -> dict[str, Tensor]:
    sums = PolicyScorer(model)(token_batch(random_elements(1), layout)).sum_N
    (sums * torch.linspace(-1, 1, len(sums))).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_packed_values_and_gradients_equal_padded_rows(family: str, recomputed: bool, tiny_model: MakeModel) -> None:
    """With the last layer trimmed and, where asked for, every layer computed again in the backward pass."""
    model, plain = packed(tiny_model(family)), tiny_model(family)
    if recomputed:
        allow_recomputation(model)
        model.train()
    ours, theirs = gradients(model, "packed"), gradients(plain, "padded")
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-5 * gradient.norm(), name
    with torch.no_grad():
        sums = [
            PolicyScorer(each)(token_batch(random_elements(), layout)).sum_N
            for each, layout in ((model, "packed"), (plain, "padded"))
        ]
    assert_close(*sums, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.usefixtures("flex_backward_on_cpu")
def test_flex_attention_gives_the_models_gradients(tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of CUDA, run eagerly here, through a whole model."""
    import training.tree_attention as subject

    model, other = packed(tiny_model(num_key_value_heads=2)), packed(tiny_model(num_key_value_heads=2))
    branches = gradients(other, "packed")
    plain = subject.tree_pass
    monkeypatch.setattr(
        "training.scorers.tree_pass",
        lambda sizes, rows, device: plain(sizes, rows, device)._replace(block_mask=block_mask(sizes, device)),
    )
    for name, gradient in gradients(model, "packed").items():
        assert (gradient - branches[name]).norm() <= 1e-5 * branches[name].norm(), name


def test_only_rows_that_are_read_are_computed_in_the_last_layer(tiny_model: MakeModel) -> None:
    model = packed(tiny_model())
    seen: dict[str, int] = {}
    for number, layer in enumerate(model.model.layers):
        layer.mlp.down_proj.register_forward_hook(
            lambda _part, inputs, _output, number=number: seen.__setitem__(str(number), inputs[0].shape[1])
        )
    batch = token_batch(random_elements(), "packed")
    PolicyScorer(model)(batch)
    assert seen == {"0": batch.input_ids_BT.shape[1], "1": len(set(batch.source_M.tolist()))}


def test_sampling_and_padded_rows_do_not_notice(tiny_model: MakeModel) -> None:
    """The replaced attention without a tree is SDPA, left padding and cache included."""
    model, plain = packed(tiny_model()), tiny_model()
    ids, mask = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    texts = [
        each.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False) for each in (model, plain)
    ]
    assert torch.equal(*texts)
    batch = token_batch(random_elements(), "padded")
    assert torch.equal(PolicyScorer(model)(batch).token_M, PolicyScorer(plain)(batch).token_M)


def test_the_log_says_which_layout_and_why(tiny_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="training.layout")
    assert choose_layout(tiny_model(), "tree", 64) == "packed"
    assert "attention by branches, because a CPU" in caplog.text or "FlexAttention, because on CUDA" in caplog.text
    assert choose_layout(tiny_model(attn_implementation="eager"), "tree", 64) == "tree"
    assert "one row for each prefix tree, because its attention (eager)" in caplog.text


def test_layers_that_cannot_be_trimmed_are_computed_whole(tiny_model: MakeModel) -> None:
    """A feed-forward that looks at its neighbours gives other states by rows, so the hooks go again."""
    model = tiny_model()
    feed_forward = model.model.layers[-1].mlp
    plain = feed_forward.forward
    # At the last place of the probe's rows it looks at how many there are, which trimming changes.
    feed_forward.forward = lambda hidden: plain(hidden) + (hidden.shape[1] == 3)
    packed(model)
    assert model.config._attn_implementation == ATTENTION
    assert not model.model.layers[-1].mlp._forward_hooks


def test_adapters_that_come_later_end_the_trimming(tiny_model: MakeModel) -> None:
    """What replaces a part sees all rows: hooks on the part inside must not take some away."""
    model, plain = packed(tiny_model()), tiny_model()

    class Doubled(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, hidden: Tensor) -> Tensor:
            return self.inner(hidden) + hidden

    for each in (model, plain):
        each.model.layers[-1].self_attn.o_proj = Doubled(each.model.layers[-1].self_attn.o_proj)
    ours, theirs = (
        PolicyScorer(each)(token_batch(random_elements(), layout)).sum_N
        for each, layout in ((model, "packed"), (plain, "padded"))
    )
    assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
