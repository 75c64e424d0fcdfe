"""The learning rate as a pure function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def learning_rate_factor(step: int, steps: int, warmup_fraction: float, schedule: Schedule) -> float:
    """What the peak learning rate is multiplied with at `step` (from 0) of `steps`.

    Warm-up rises linearly to 1 over ⌈fraction·steps⌉ steps and never begins at 0; then constant, or down to 0 just
    after the last step, linearly or along half a cosine.
    """
    warmup = math.ceil(warmup_fraction * steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
