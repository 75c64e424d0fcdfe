"""FSDP2: a copy of the model that learns in shards, one on each process, beside the whole one that all else reads.

Each decoder layer is a unit of its own, which is gathered for its computation and let go again; gradients and AdamW's
moments exist in shards only (arXiv 2304.11277; torch's `fully_shard`, on GPUs and CPUs alike). The whole model is
brought up to date where weights are needed: for a checkpoint, for held-out prompts, at the end. Checkpoints hold whole
tensors, so a run may go on with another number of processes.

Left out: sampling from shards, so policy gradients; models that no single device can hold, because the whole one takes
part in everything that is not learning.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from training.models import decoder_layers


class Sharded(NamedTuple):
    """What learns in the place of a whole model."""

    module: nn.Module
    whole: nn.Module

    def gather(self) -> None:
        """Bring the whole model up to date; every process must take part."""
        with torch.no_grad():
            learnt = dict(self.module.named_parameters())
            for name, parameter in self.whole.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(full(learnt[name]))

    def backward(self, loss: Tensor, *, last: bool) -> None:  # noqa: ARG002
        """Add to the gradients of the shards; every process must take part each time."""
        loss.backward()  # type: ignore[no-untyped-call]

    def clip(self, limit: float) -> float:
        """Clip the gradients to a norm; returns what it was."""
        return float(nn.utils.clip_grad_norm_(self.module.parameters(), limit))

    def scatter(self) -> None:
        """Take up the weights of the whole model."""
        with torch.no_grad():
            whole = dict(self.whole.named_parameters())
            for name, parameter in self.module.named_parameters():
                parameter.copy_(cut_like(whole[name].detach(), parameter))


def shard(whole: nn.Module) -> Sharded:
    """A copy of a model in shards over all processes; its frozen parameters are sharded too."""
    from torch.distributed.fsdp import fully_shard

    module = copy.deepcopy(whole)
    for layer in decoder_layers(module):
        fully_shard(layer)
    fully_shard(module)
    return Sharded(module, whole)


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor, which may be in shards; every process must take part."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(whole: Tensor, other: Tensor) -> Tensor:
    """A whole tensor cut as another one is; one of another shape, such as a step count, stays whole."""
    if isinstance(other, DTensor) and whole.shape == other.shape:
        return distribute_tensor(whole.to(other.device), other.device_mesh, other.placements)
    return whole


def evened(cuts: Sequence[tuple[list[int], bool]], count: int) -> list[tuple[list[int], bool]]:
    """As many micro-batches as the busiest process has, those added without weight: all gather a layer together."""
    return [*cuts, *[(cuts[0][0][:1], False)] * (count - len(cuts))]
