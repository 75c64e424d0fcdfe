"""The prefix tree: a prompt and its K completions as one sequence, and the padded layout that it equals.

    tokens      p p p p  a a a  b b          segment    0 0 0 0  1 1 1  2 2
    positions   0 1 2 3  4 5 6  4 5          a token sees what is before it in segment 0 or in its own segment

The prompt is computed once instead of K times. Each completion sees the prompt and itself at the positions it would
have alone, so log-probabilities, rewards and gradients are those of K separate sequences. Three layouts, and nothing
behind the `TokenBatch` that they give knows which: `packed`, all trees in one row without padding, for models that can
take the attention of `tree_attention`; `tree`, one row for each, for models that take a mask; `padded`, one row for
each completion, for the others. Lengths are carried, never read off a pad token, because pad may equal eos. Left out:
which layout a model can take (`layout`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from training.data import Element, Tokens

Layout = Literal["packed", "tree", "padded"]


class Footprint(NamedTuple):
    """Rows and their longest length in tokens: rows × length is the memory that an element takes."""

    rows: int
    length: int


class TokenBatch(NamedTuple):
    """Sequences in either layout, with the places of every completion token. All indices are into B·T."""

    input_ids_BT: Tensor
    position_ids_BT: Tensor
    attention_mask: Tensor
    """Tree: bool (B, 1, T, T), True where a token may look. Padded: (B, T), 1 for real tokens. Packed: a placeholder
    (1, 1, 1, 1), for which models make no mask of their own."""
    source_M: Tensor
    """Place whose hidden state predicts the token."""
    target_M: Tensor
    """The completion token to predict."""
    owner_M: Tensor
    """Which completion, in [0, N), the token belongs to."""
    last_N: Tensor
    """Place of each completion's last token."""
    sizes: tuple[tuple[int, ...], ...] = ()
    """Packed: of each tree the tokens of its prompt and of each completion."""

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on another device."""
        moved = {name: each.to(device, non_blocking=True) for name, each in self._asdict().items() if name != "sizes"}
        return self._replace(**moved)


class _Row(NamedTuple):
    """One sequence: a prompt and the completions that hang on it."""

    prompt: Tokens
    completions: tuple[Tokens, ...]

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(map(len, self.completions))


def footprint(element: Element, layout: Layout) -> Footprint:
    """What an element takes in a layout."""
    lengths = [len(completion) for completion in element.completions]
    if layout != "padded":
        return Footprint(1, len(element.prompt) + sum(lengths))
    return Footprint(len(lengths), len(element.prompt) + max(lengths))


def token_batch(elements: Sequence[Element], layout: Layout) -> TokenBatch:
    """Lay elements out; completions are numbered in the order of elements, then of completions."""
    if layout == "padded":
        return _batch([_Row(e.prompt, (completion,)) for e in elements for completion in e.completions], layout)
    return _batch([_Row(e.prompt, e.completions) for e in elements], layout)


def tree_mask(segment_BT: Tensor) -> Tensor:
    """Who may see whom: j ≤ i, and j in the prompt (segment 0) or in i's own segment. (B, T) → bool (B, 1, T, T).

    Padding (segment −1) sees the prompt, so that no row of the mask is empty, which would give NaN.
    """
    length = segment_BT.shape[1]
    causal_TT = torch.ones(length, length, dtype=torch.bool, device=segment_BT.device).tril()
    key_B1T, query_BT1 = segment_BT[:, None, :], segment_BT[:, :, None]
    return (causal_TT & ((key_B1T == 0) | (key_B1T == query_BT1)))[:, None]


def _batch(rows: Sequence[_Row], layout: Layout) -> TokenBatch:
    starts, shape = _places(rows, layout)
    ids, positions, segments = (torch.full((shape[0] * shape[1],), fill, dtype=torch.long) for fill in (0, 0, -1))
    source: list[int] = []
    target: list[int] = []
    lengths: list[int] = []
    last: list[int] = []
    for begin, row in zip(starts, rows, strict=True):
        for flat, values in zip((ids, positions, segments), _flatten(row), strict=True):
            flat[begin : begin + row.length] = torch.tensor(values)
        start = begin + len(row.prompt)
        for completion in row.completions:
            # The last prompt token predicts the first token of every completion.
            source += [begin + len(row.prompt) - 1, *range(start, start + len(completion) - 1)]
            target += completion
            lengths.append(len(completion))
            start += len(completion)
            last.append(start - 1)
    return TokenBatch(
        input_ids_BT=ids.view(shape),
        position_ids_BT=positions.view(shape),
        attention_mask=_mask(segments.view(shape), layout),
        source_M=torch.tensor(source),
        target_M=torch.tensor(target),
        owner_M=torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)),
        last_N=torch.tensor(last),
        sizes=tuple((len(row.prompt), *map(len, row.completions)) for row in rows) if layout == "packed" else (),
    )


def _places(rows: Sequence[_Row], layout: Layout) -> tuple[list[int], tuple[int, int]]:
    """Where each row begins in B·T, and (B, T)."""
    lengths = [row.length for row in rows]
    if layout == "packed":
        *starts, total = itertools.accumulate(lengths, initial=0)
        return starts, (1, total)
    width = max(lengths)
    return [number * width for number in range(len(rows))], (len(rows), width)


def _mask(segment_BT: Tensor, layout: Layout) -> Tensor:
    if layout == "packed":
        return torch.ones(1, 1, 1, 1, dtype=torch.bool)
    return tree_mask(segment_BT) if layout == "tree" else (segment_BT >= 0).long()


def _flatten(row: _Row) -> tuple[list[int], list[int], list[int]]:
    """A row's tokens, positions (restarted behind the prompt) and segments (0 prompt, k the k-th completion)."""
    prompt = len(row.prompt)
    ids, positions, segments = list(row.prompt), list(range(prompt)), [0] * prompt
    for number, completion in enumerate(row.completions, start=1):
        ids += completion
        positions += range(prompt, prompt + len(completion))
        segments += [number] * len(completion)
    return ids, positions, segments
