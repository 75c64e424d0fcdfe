"""The training loop that both demo models share: AdamW, warm-up, cosine decay, gradient clipping, progress with an
ETA.

Deliberately plain: one process, float32 (faster than bfloat16 at this size on a CPU), no checkpoints, because a run
takes minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from transformers import Qwen2ForCausalLM

Batch = TypeVar("Batch")
REPORT_EVERY = 50


def fit(
    model: Qwen2ForCausalLM,
    batches: Iterator[Batch],
    loss: Callable[[Qwen2ForCausalLM, Batch], torch.Tensor],
    *,
    steps: int,
    lr: float,
    name: str,
) -> float:
    """Train in place and return the minutes it took."""
    model.train()
    extra = list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []
    optimizer = torch.optim.AdamW([*model.parameters(), *extra], lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    start, recent = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        value = loss(model, next(batches))
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent += value.item()
        if step % REPORT_EVERY == 0 or step == steps:
            _report(name, step, steps, recent / ((step - 1) % REPORT_EVERY + 1), time.monotonic() - start)
            recent = 0.0
    model.eval()
    return (time.monotonic() - start) / 60


def _rate(step: int, steps: int) -> float:
    """Learning-rate factor: linear warm-up over the first 3 %, then a cosine down to 2 %."""
    warm_up = max(1, round(0.03 * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _report(name: str, step: int, steps: int, loss: float, elapsed_s: float) -> None:
    left_s = elapsed_s / step * (steps - step)
    print(
        f"{name}: step {step}/{steps}  loss {loss:.4f}  {step / elapsed_s:.2f} steps/s  {left_s:.0f} s left", flush=True
    )
