"""The section `[selection]`: which prompts of the training file a round uses.

Evaluation prompts are never trained on: equal ones are always found, nearly equal ones where asked. Quotas keep a kind
of task, named by a prompt's tag, from taking over or from dying out when a part of the file is drawn.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ratify.sections import Section


class SelectionSection(Section):
    """Which training prompts are used, beside `prompts.train_limit`."""

    decontaminate: Literal["near", "exact", "off"] = "exact"
    """Leave out training prompts that are also evaluation prompts (held-out ones and those of gold pairs): nearly, word
    for word, or none. What is found is counted in any case."""
    similar: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of the sets of 3-word runs from which two prompts are nearly the same."""
    at_least: dict[str, float] = Field(default_factory=dict)
    """Tag → least share of the drawn prompts that bear it."""
    at_most: dict[str, float] = Field(default_factory=dict)
    """Tag → largest share of the drawn prompts that bear it."""
    seed: int | None = None
    """Seed of the draws from prompt files; None takes `run.seed`. Rounds set it, so that all have the same held-out
    prompts."""
    portion: int = Field(default=0, ge=0)
    """Which `train_limit` prompts: 0 the first that are drawn, 1 the next, and so on around the file. Rounds set it."""

    @field_validator("at_least", "at_most")
    @classmethod
    def _shares(cls, quotas: dict[str, float]) -> dict[str, float]:
        wrong = [tag for tag, share in quotas.items() if not 0 <= share <= 1]
        if wrong:
            raise ValueError(f"the quota of {wrong[0]!r} is a share of the prompts, from 0 to 1")
        return quotas

    @property
    def quotas(self) -> bool:
        """Is any share asked for?"""
        return bool(self.at_least or self.at_most)
