"""The setting `lora` of every training task: low-rank adapters on frozen weights instead of training all of them.

Left out: dropout, which is off everywhere because a ratio of log-probabilities must be exactly 1 where the weights are
the same; adapters on embeddings and heads; quantised weights.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ratify.endpoint_sections import Section


class LoraSection(Section):
    """LoRA (arXiv 2106.09685): W + scale·B·A with W frozen, B zero at the start."""

    rank: int = Field(gt=0)
    """Rows of A, columns of B."""
    alpha: float | None = Field(default=None, gt=0)
    """The scale is alpha / rank; None means twice the rank, so a scale of 2 whatever the rank."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the linear layers that get an adapter, such as `q_proj`; `all-linear` takes all of the backbone's."""

    @property
    def strength(self) -> float:
        """Alpha, whether it was set or not."""
        return 2.0 * self.rank if self.alpha is None else self.alpha
