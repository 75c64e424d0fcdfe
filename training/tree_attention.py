"""Attention of packed prefix trees: by branches on a CPU, by FlexAttention on CUDA; nobody builds a mask of T × T.

Several trees lie in one row without padding. A prompt sees itself causally, a completion sees its prompt and itself:
these blocks are all that is computed. On a CPU each is a call of SDPA; a dense mask would have it compute every
completion against every other one. On CUDA one FlexAttention kernel, compiled once for all lengths, skips the same
blocks, where many small calls would starve the device. Both are registered with transformers as one implementation,
which without a tree (sampling, the padded layout) is SDPA.

The last layer's output projection and feed-forward work token by token, and only the tokens that somebody reads need
them: `trim_last_layer` computes those rows alone. Left out: windows, softcaps and sinks (`layout` falls back), and the
queries that nobody reads.

Shapes: T tokens of the row, D of a head, S segments (prompts and completions), R rows that are read.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "prefix_tree"
"""Name under which transformers knows the implementation, and of the keyword that carries a `TreePass`."""

Sizes = Sequence[Sequence[int]]
"""Of each tree in a row the tokens of its prompt and of each completion."""


class TreePass(NamedTuple):
    """What one forward pass over a row of trees needs besides tokens and positions."""

    sizes: tuple[tuple[int, ...], ...]
    block_mask: BlockMask | None
    """For FlexAttention; None computes by branches."""
    rows_R: Tensor
    """Places whose last hidden state is read, each once."""


def register() -> None:
    """Make the implementation known to transformers; again does no harm."""
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def tree_pass(sizes: tuple[tuple[int, ...], ...], rows: Tensor | None, device: torch.device) -> TreePass:
    """The pass for a device: FlexAttention's blocks where it is the faster way, on CUDA."""
    mask = block_mask(sizes, device) if device.type == "cuda" else None
    read = torch.arange(sum(map(sum, sizes)), device=device) if rows is None else torch.unique(rows)
    return TreePass(sizes, mask, read)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    prefix_tree: TreePass | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' interface: queries (B, heads, T, D) to outputs (B, T, heads, D)."""
    if prefix_tree is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
        return cast(Tensor, output), None
    if prefix_tree.block_mask is None:
        output = by_branches(query, key, value, prefix_tree.sizes, scaling)
    else:
        output = by_blocks(query, key, value, prefix_tree.block_mask, scaling)
    return output.transpose(1, 2).contiguous(), None


def by_branches(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, scaling: float | None = None) -> Tensor:
    """One SDPA call for each segment. (1, heads, T, D) and (1, key heads, T, D) twice → (1, heads, T, D)."""
    flat = list(itertools.chain.from_iterable(sizes))
    # One split and one concatenation: their gradients are one concatenation and one split, a slice's would be a row.
    segments = iter(zip(*(torch.split(tensor, flat, dim=2) for tensor in (query, key, value)), strict=True))
    attend = functools.partial(scaled_dot_product_attention, scale=scaling, enable_gqa=True)
    outputs: list[Tensor] = []
    for tree in sizes:
        prompt_query, prompt_key, prompt_value = next(segments)
        outputs.append(attend(prompt_query, prompt_key, prompt_value, is_causal=True))
        for length in tree[1:]:
            own_query, own_key, own_value = next(segments)
            keys, values = torch.cat((prompt_key, own_key), dim=2), torch.cat((prompt_value, own_value), dim=2)
            seen = torch.ones(length, tree[0] + length, dtype=torch.bool, device=query.device).tril(tree[0])
            outputs.append(attend(own_query, keys, values, attn_mask=seen))
    return torch.cat(outputs, dim=2)


def by_blocks(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float | None = None) -> Tensor:
    """FlexAttention, compiled on CUDA; shapes as `by_branches`."""
    query, key = query.to(value.dtype), key.to(value.dtype)
    attend = _compiled() if query.is_cuda else cast(Callable[..., Any], flex_attention)
    return cast(Tensor, attend(query, key, value, block_mask=mask, scale=scaling, enable_gqa=True))


def block_mask(sizes: Sizes, device: torch.device) -> BlockMask:
    """Which blocks of a row see which: j ≤ i, and j in i's own segment or in the prompt of i's tree."""
    segment_T, prompt_T = (index.to(device) for index in segments_of(sizes))

    def seen(_batch: Tensor, _head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j <= i) & ((segment_T[j] == segment_T[i]) | (segment_T[j] == prompt_T[i]))

    length = len(segment_T)
    return create_block_mask(seen, None, None, length, length, device=device, _compile=device.type == "cuda")


def segments_of(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Number of each token's segment, and of the prompt it hangs on, both (T,), counted through the row."""
    flat = torch.tensor(list(itertools.chain.from_iterable(sizes)))
    first = itertools.accumulate([0, *map(len, sizes)])
    prompts = torch.tensor([number for number, tree in zip(first, sizes, strict=False) for _ in tree])
    return torch.arange(len(flat)).repeat_interleave(flat), prompts.repeat_interleave(flat)


@functools.cache
def _compiled() -> Callable[..., Any]:
    """One kernel for all lengths."""
    return torch.compile(flex_attention, dynamic=True)


def trim_last_layer(backbone: nn.Module) -> list[RemovableHandle]:
    """Have a backbone compute the token-wise parts of its last layer for the rows of a `TreePass` alone.

    Behind that layer the other rows of its output hold no hidden states.

    Returns:
        The hooks; none if the backbone has no such parts under the names that most families give them.
    """
    layers = getattr(backbone, "layers", None)
    layer = layers[-1] if isinstance(layers, nn.ModuleList) and len(layers) else nn.Identity()
    parts = _token_wise_parts(layer)
    if not parts:
        return []
    trimming = _Trimming(parts)
    handles = [
        layer.register_forward_pre_hook(trimming.begin, with_kwargs=True),
        layer.register_forward_hook(trimming.end, always_call=True),
    ]
    for part in parts:
        handles += [part.register_forward_pre_hook(trimming.take), part.register_forward_hook(trimming.put)]
    return handles


def _token_wise_parts(layer: nn.Module) -> list[nn.Module]:
    """Output projection and feed-forward of a decoder layer; none if one of them has another name."""
    parts = [getattr(getattr(layer, "self_attn", None), "o_proj", None), getattr(layer, "mlp", None)]
    return [part for part in parts if isinstance(part, nn.Module)] if all(parts) else []


class _Trimming:
    """The hooks. The rows come with the layer's own call, so that a recomputed layer finds those of its first one."""

    def __init__(self, parts: list[nn.Module]) -> None:
        self._parts = parts
        self._rows_R: Tensor | None = None
        self._length = 0

    def begin(self, layer: nn.Module, _arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        found: TreePass | None = named.get(ATTENTION)
        # Adapters may have taken a part's place since; what they add would see all rows.
        untouched = list(map(id, self._parts)) == list(map(id, _token_wise_parts(layer)))
        self._rows_R = found.rows_R if found is not None and untouched else None

    def end(self, *_call: object) -> None:
        self._rows_R = None

    def take(self, _part: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """(1, T, H) → (1, R, H)."""
        if self._rows_R is None:
            return None
        self._length = arguments[0].shape[1]
        return (arguments[0].index_select(1, self._rows_R), *arguments[1:])

    def put(self, _part: nn.Module, _arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """(1, R, H) → (1, T, H), zeros elsewhere."""
        if self._rows_R is None:
            return None
        whole = output.new_zeros(output.shape[0], self._length, output.shape[2])
        return whole.index_copy(1, self._rows_R, output)


def backbone_of(model: PreTrainedModel) -> nn.Module:
    """The part of a model that gives hidden states."""
    return cast(nn.Module, getattr(model, model.base_model_prefix))


def attention_of(model: PreTrainedModel) -> str:
    """Name of the attention that a model's layers compute."""
    return str(cast(Any, backbone_of(model)).config._attn_implementation)


def set_attention(model: PreTrainedModel, name: str) -> None:
    """Replace it. A backbone that was put into a model keeps a configuration of its own, which its layers read."""
    model.set_attn_implementation(name)
    cast(Any, backbone_of(model)).set_attn_implementation(name)
