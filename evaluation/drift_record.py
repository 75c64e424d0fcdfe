"""What a drift check says: readings in families, each with what it can be trusted for, and one answer for a scheduler.

A reading that could not be taken is `insufficient` with the reason; it is never `steady`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ratify.types import Record

Part = Literal["judge", "prompts", "reward_model", "policy"]
State = Literal["drift", "insufficient", "new epoch", "steady"]
ORDER: tuple[State, ...] = ("drift", "insufficient", "new epoch", "steady")
"""From what should be looked at first."""


class Reading(Record):
    """One alarm, or the silence of one."""

    part: Part
    name: str
    state: State
    text: str
    """One sentence: what was found."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    p_value: float | None = None
    limit: float | None = None
    """What the statistic, p-value or effect was held against."""
    false_alarms: float | None = None
    """Measured share of alarms where nothing has drifted."""
    false_alarms_from: str = ""
    """How that was measured."""
    detectable: float | None = None
    """The smallest effect that is found in 80 of 100 cases, in the unit of the value."""


class DriftReport(Record):
    """Everything that one check of a run found."""

    format: Literal["ratify.drift/1"] = "ratify.drift/1"
    run: str
    round: int
    time: str
    alpha: float
    readings: tuple[Reading, ...] = Field(min_length=1)

    @property
    def state(self) -> State:
        """The first of the readings' states in `ORDER`."""
        return min((reading.state for reading in self.readings), key=ORDER.index)


def missing(part: Part, name: str, why: str) -> Reading:
    """A reading that could not be taken."""
    return Reading(part=part, name=name, state="insufficient", text=f"Not known: {why.rstrip('.')}.")
