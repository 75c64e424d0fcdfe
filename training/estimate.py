"""From a model and its data to the figures of `cost`: sizes, tokens, and a speed measured on one micro-batch.

Left out: policy gradients, whose completions do not exist yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ratify.sections import OptimiserSection
from training import batching
from training.cost import Shape, Work
from training.data import Element
from training.scorers import PolicyScorer
from training.tree import Layout, footprint


def shape_of(scorer: nn.Module) -> Shape:
    """Sizes of a scorer's model; families that name no sizes count by their parameters alone."""
    model = cast(Any, scorer.model)
    config = model.config.get_text_config()
    hidden = int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", 1) or 1)
    size = int(getattr(config, "head_dim", None) or hidden // heads)
    total = sum(parameter.numel() for parameter in model.parameters())
    embedding = int(model.get_input_embeddings().weight.numel())
    head_weight = model.get_output_embeddings().weight if isinstance(scorer, PolicyScorer) else model.score.weight
    tied = head_weight is model.get_input_embeddings().weight
    return Shape(
        parameters=total,
        trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        body=total - embedding - (0 if tied else head_weight.numel()),
        head=head_weight.numel(),
        layers=int(getattr(config, "num_hidden_layers", 1)),
        hidden=hidden,
        attention=heads * size,
        key_value=int(getattr(config, "num_key_value_heads", None) or heads) * size,
        intermediate=int(getattr(config, "intermediate_size", None) or 4 * hidden),
    )


def work_of(elements: Sequence[Element], layout: Layout, *, by_token: bool) -> Work:
    """Real rows of elements in a layout; the head is computed at each completion token or once a completion."""
    return sum((_work_of(element, layout, by_token=by_token) for element in elements), Work(0, 0, 0))


def _work_of(element: Element, layout: Layout, *, by_token: bool) -> Work:
    prompt, lengths = len(element.prompt), [len(completion) for completion in element.completions]
    scored = sum(lengths) if by_token else len(lengths)
    if layout == "padded":
        rows = [prompt + length for length in lengths]
        return Work(sum(rows), sum(length * length for length in rows), scored)
    total = prompt + sum(lengths)
    if layout == "tree":
        return Work(total, total * total, scored)
    # The last prompt token is read once for all completions, and their last tokens predict nothing.
    read = 1 + sum(length - 1 for length in lengths) if by_token else len(lengths)
    return Work(total, prompt * prompt + sum(length * (prompt + length) for length in lengths), scored, total - read)


def epoch_work(
    elements: Sequence[Element], section: OptimiserSection, seed: int, layout: Layout, device_type: str
) -> tuple[int, int]:
    """Padded tokens of the first epoch as it is computed by one process, and of its largest micro-batch."""
    found = []
    for step in range(batching.steps_per_epoch(len(elements), section.batch_prompts)):
        held = batching.step_elements(elements, step, section.batch_prompts, seed)
        order = batching.by_length(held, layout)
        budget, cut = section.tokens_per_micro_batch, batching.cut_for(device_type)
        for indices in batching.micro_batches(held, order, budget, layout, cut):
            sizes = [footprint(held[index], layout) for index in indices]
            longest = max(size.length for size in sizes)
            found.append(sum(size.length if layout == "packed" else size.rows * longest for size in sizes))
    return sum(found), max(found)


def pass_seconds(scorer: nn.Module, compute: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one forward and backward pass, the second of two, for the first one warms up.

    The loss is the sum of what the scorer gives. No gradient is left on the parameters and no hook of distributed
    training is called, because gradients are asked for and not accumulated.
    """
    trained = [parameter for parameter in scorer.parameters() if parameter.requires_grad]
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        output = compute()
        tensors = [output] if isinstance(output, Tensor) else list(output)
        loss = sum((t.float().sum() for t in tensors if isinstance(t, Tensor) and t.requires_grad), torch.zeros(()))
        torch.autograd.grad(loss, trained, allow_unused=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    return seconds
