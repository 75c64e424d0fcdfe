"""What the first process has on its disk, for all processes of a training.

Only the first process writes, and the others may run on machines that do not share its disk, or see a shared one late.
So whatever is read again while training (a checkpoint, cached log-probabilities, the best weights) it alone reads and
sends. Left out: data and models, which every machine has of its own (`meeting` compares them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from ratify.errors import RatifyError


class Held(NamedTuple):
    """What was read from files."""

    note: dict[str, Any]
    """JSON values."""
    tensors: dict[str, Tensor]
    """On the CPU, by name."""

    def under(self, part: str) -> dict[str, Tensor]:
        """The tensors named `part/…`, without that."""
        prefix = f"{part}/"
        return {name.removeprefix(prefix): held for name, held in self.tensors.items() if name.startswith(prefix)}


class _Told(NamedTuple):
    """What goes ahead of the tensors."""

    note: dict[str, Any] | None
    shapes: dict[str, tuple[torch.Size, torch.dtype]]
    fault: RatifyError | None = None


def from_first(read: Callable[[], Held | None]) -> Held | None:
    """What `read` gives in the first process; every process must call this.

    Raises:
        RatifyError: whatever `read` raises in the first process, in every one: nobody waits for what never comes.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return read()
    found, told = _announced(read) if torch.distributed.get_rank() == 0 else (None, None)
    messages = [told]
    torch.distributed.broadcast_object_list(messages, src=0)
    told = messages[0]
    assert told is not None, "the first process has told or is gone"
    if told.fault:
        raise told.fault
    if told.note is None:
        return None
    held = found.tensors if found else {}
    return Held(told.note, {name: _sent(held.get(name), *shape) for name, shape in told.shapes.items()})


def _announced(read: Callable[[], Held | None]) -> tuple[Held | None, _Told]:
    try:
        found = read()
    except RatifyError as fault:
        return None, _Told(None, {}, fault)
    if found is None:
        return None, _Told(None, {})
    return found, _Told(found.note, {name: (held.shape, held.dtype) for name, held in found.tensors.items()})


def _sent(held: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """One tensor, as bytes, which every backend can send whatever the number format."""
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    moved = (torch.empty(shape, dtype=dtype) if held is None else held).to(device).contiguous()
    torch.distributed.broadcast(moved.view(-1).view(torch.uint8), src=0)
    return moved.cpu()
