"""KTO's reference point z₀ ≈ KL(π‖π_ref), estimated on mismatched completions (arXiv 2402.01306, section 4.1).

Each prompt carries one completion of another prompt as a further branch of its prefix tree; z₀ is the mean of their
log-ratios, not below 0. The paper takes the mean over the same batch, which would tie micro-batches and processes to
each other; here it is that of the step before (0 before the first, where policy and reference are equal), so that the
gradient depends on the data alone. z₀ carries no gradient in the paper either.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.data import Element


def with_mismatched(elements: Sequence[Element], max_length: int) -> list[Element]:
    """Give each element the first completion of the next other prompt's element, if it fits; no pair names it."""
    changed = []
    for index, element in enumerate(elements):
        foreign = elements[(index + 1) % len(elements)].completions[0]
        fits = len(element.prompt) + len(foreign) <= max_length
        added = (foreign,) if fits and foreign not in element.completions else ()
        changed.append(element._replace(completions=(*element.completions, *added)))
    return changed


def mismatched(elements: Sequence[Element], device: torch.device) -> Tensor:
    """True for completions that no pair names, bool (N,)."""
    flags: list[bool] = []
    for element in elements:
        named = {index for pair in element.pairs for index in (pair.chosen, pair.rejected)}
        flags += [index not in named for index in range(len(element.completions))]
    return torch.tensor(flags, device=device)
