"""The section `[rounds]`: how round follows round, that is, who begins the next one, on what data, and when to stop.

What is left out: what happens inside a round (every other section), and when rounds start (a scheduler).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ratify.sections import Section

StopOn = Literal["reject", "insufficient", "hold", "never"]

STOPS: dict[StopOn, tuple[str, ...]] = {
    "reject": ("REJECT",),
    "insufficient": ("REJECT", "INSUFFICIENT"),
    "hold": ("REJECT", "INSUFFICIENT", "HOLD"),
    "never": (),
}
"""Verdicts of the gate after which no further round begins."""


class RoundsSection(Section):
    """How `ratify rounds` iterates the whole loop."""

    start_from: Literal["promoted", "latest"] = "promoted"
    """The policy that a round samples from and that the new one must beat: the one that is promoted, or the newest,
    whatever the gate says of it."""
    train_from: Literal["start", "first"] = "start"
    """The weights that training begins with, and the reference of its KL: those that the round samples from, or those
    of the run's first policy, so that every round trains afresh."""
    prompts: Literal["new", "same"] = "new"
    """Each round draws the next `prompts.train_limit` prompts of the file, or the same ones again."""
    data: Literal["replace", "accumulate", "subsample", "mix"] = "replace"
    """What a round trains on: its own preference pairs; those of all rounds so far; as many of those, drawn by seed, as
    `data_size` says; its own and a share of `reference`."""
    data_size: int | None = Field(default=None, gt=0)
    """subsample: pairs to draw; None takes as many as the round itself has."""
    reference: Path | None = None
    """mix: preference pairs by people, in the formats of TRL's trainers (Parquet or JSON lines, or a folder)."""
    reference_share: float = Field(default=0.5, gt=0, lt=1)
    """mix: share of all pairs that come from `reference`; drawn anew by each round's seed."""
    promote: bool = True
    """Promote a policy for which the gate says PROMOTE; false leaves every promotion to `ratify promote`."""
    stop_on: StopOn = "reject"
    """Begin no further round after REJECT; after REJECT or INSUFFICIENT; after anything but PROMOTE; or never."""
    recalibrate_every: int = Field(default=0, ge=0)
    """Judge `gold.canaries` and fit `gold.calibrate` in every so-many-th round only, and label the rounds between with
    the calibrators found last; 0 does it in every round."""

    @model_validator(mode="after")
    def _reference_is_mixed(self) -> RoundsSection:
        if self.data == "mix" and self.reference is None:
            raise ValueError("rounds.data is 'mix' and there is nothing to mix in: set rounds.reference to a file")
        if self.data != "mix" and self.reference is not None:
            raise ValueError(f"rounds.reference belongs to rounds.data = 'mix', and it is {self.data!r}")
        if self.data != "subsample" and self.data_size is not None:
            raise ValueError(f"rounds.data_size belongs to rounds.data = 'subsample', and it is {self.data!r}")
        return self
