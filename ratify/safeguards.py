"""The sections that keep labelling honest and affordable: gold pairs to measure the judge with, limits on what it may
cost.

They are apart from `ratify/sections.py` because they say nothing about what is labelled, only when to stop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ratify.sections import Section

LEAST_CANARIES = {"none": 0, "temperature": 20, "isotonic": 500}
"""Gold pairs that each calibration needs at least."""


class GoldSection(Section):
    """Pairs of which people, or a world's truth, say which reply is better."""

    path: Path | None = None
    """JSON lines: `messages`, `a`, `b`, `gold` (`a`, `b` or `tie`; overall, or by principle); docs/judges.md."""
    canaries: int = Field(default=0, ge=0)
    """Gold pairs that are mixed into the questions of each label stage, drawn by seed; 0 mixes in none."""
    human_ceiling: float | None = Field(default=None, gt=0, le=1)
    """How often people agree with gold; agreement is also shown as a share of it."""
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    """The label stage stops when the judge agrees with fewer of the canaries; None never stops."""
    calibrate: Literal["none", "temperature", "isotonic"] = "none"
    """What the canaries teach about the judge's log-odds: nothing, one number per principle, or a curve."""

    calibrator: Path | None = Field(default=None, exclude_if=lambda path: path is None)
    """Label with the calibrators in this file, as an earlier label stage wrote them, instead of fitting any; rounds set
    it (`rounds.recalibrate_every`)."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> GoldSection:
        if self.canaries and self.path is None:
            raise ValueError(f"gold.canaries is {self.canaries} and there is no gold: set gold.path to a file of pairs")
        if self.min_agreement is not None and not self.canaries:
            raise ValueError("gold.min_agreement is set and no gold pair is judged: set gold.canaries, such as 100")
        least = LEAST_CANARIES[self.calibrate]
        if self.canaries < least:
            raise ValueError(
                f"gold.calibrate is {self.calibrate!r}, which needs at least {least} gold pairs: set gold.canaries"
            )
        return self


class BudgetSection(Section):
    """Limits on what judging may cost, over the whole run and all its commands. None is no limit."""

    money: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """In the currency of `judge.price`, which must be set."""
    tokens: int | None = Field(default=None, ge=0)
    """Prompt and completion tokens together."""
    requests: int | None = Field(default=None, ge=0)
    """Requests to the judge. What the client repeats after a lost connection, 429 or 5xx is one request."""

    @property
    def limited(self) -> bool:
        """Is there any limit?"""
        return any(limit is not None for limit in (self.money, self.tokens, self.requests))
