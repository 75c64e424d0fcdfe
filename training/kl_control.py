"""Controllers of the KL coefficient β: fixed, or steered towards a target (Ziegler et al., arXiv 1909.08593).

A controller is told once for each rollout batch, never for each minibatch, and its value is part of a checkpoint.
"""

from __future__ import annotations

from typing import NamedTuple

ERROR_LIMIT = 0.2
"""The relative error is clipped to ±0.2 (section 2.2)."""


class KLController(NamedTuple):
    """β now, and how it moves; without a target it does not."""

    value: float
    """β."""
    target: float | None = None
    """Wanted KL to the reference, nats per completion."""
    horizon: float = 10_000.0
    """Completions over which β may change by about ±20 %; 10,000 in the paper's code."""

    def updated(self, kl: float, completions: int) -> KLController:
        """β·(1 + clip(KL/target − 1, −0.2, 0.2)·n/horizon) (arXiv 1909.08593, section 2.2, K_β = n/horizon).

        Args:
            kl: mean KL of the batch, nats per completion.
            completions: n, how many were sampled.
        """
        if self.target is None:
            return self
        error = min(ERROR_LIMIT, max(-ERROR_LIMIT, kl / self.target - 1))
        return self._replace(value=self.value * (1 + error * completions / self.horizon))
