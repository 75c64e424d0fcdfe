"""Section `[panel]`: further judges beside `[judge]` for the labels of a run, and how their verdicts become one.

`[judge]` has the panel's first seat. Left out: the fields of a judge (`sections.py`), and the mathematics
(`judges/panel.py`).
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field, model_validator

from ratify.sections import JudgeSection, Section

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
MOST_SEATS = 32
LEAST_FOR_DAWID_SKENE = 3


class PanelJudge(JudgeSection):
    """One further judge: all fields of `[judge]`, and these."""

    name: str = Field(pattern=NAME, max_length=64)
    """What it is called in figures, pages and folders."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How much its verdicts count."""

    @property
    def section(self) -> JudgeSection:
        """The judge as if it were alone, so that its verdicts are the same there and here."""
        return JudgeSection.model_validate({name: getattr(self, name) for name in JudgeSection.model_fields})


class PanelSection(Section):
    """Several judges label together; empty leaves `[judge]` alone."""

    judges: tuple[PanelJudge, ...] = Field(default=(), max_length=MOST_SEATS - 1)
    """The further judges, as `[[panel.judges]]`, in the order in which they are asked after `[judge]`."""
    first_name: str = Field(default="first", pattern=NAME, max_length=64)
    """What `[judge]` is called in the panel."""
    first_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How much its verdicts count."""
    combine: Literal["logit_mean", "vote", "dawid_skene"] = "logit_mean"
    """How a principle's verdicts on a pair become one: `logit_mean`: the weighted mean of log-odds; `vote`: one vote
    each, by weight; `dawid_skene`: votes, each judge believed as its agreement with the others deserves (three judges
    or more)."""
    quorum: float = Field(default=1.0, gt=0, le=1)
    """Least share, by weight, of the judges asked that must have answered; below it the verdict failed."""
    stop_settled: bool = False
    """Do not ask the remaining judges about a principle on a pair that is settled: with `vote` when they cannot turn
    it, with `logit_mean` when two or more judges agree on the side and each is as sure as `agree_above`."""
    agree_above: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """stop_settled with logit_mean: least log-odds of each judge; 2 is a probability of 0.88."""

    @model_validator(mode="after")
    def _names_differ(self) -> PanelSection:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(f"two judges of the panel are called {twice[0]!r}; give each its own name")
        return self

    @model_validator(mode="after")
    def _judges_are_asked(self) -> PanelSection:
        if any(judge.kind == "rules" for judge in self.judges):
            raise ValueError(
                "a judge of kind 'rules' has no seat in a panel, since checks decide before any judge is asked; "
                "remove it"
            )
        return self

    @model_validator(mode="after")
    def _dawid_skene_fits(self) -> PanelSection:
        if self.combine != "dawid_skene" or not self.judges:
            return self
        if len(self.names) < LEAST_FOR_DAWID_SKENE:
            raise ValueError("combine is 'dawid_skene', which needs three judges or more; add one, or take 'vote'")
        if self.stop_settled or any(weight != 1.0 for weight in self.weights):
            raise ValueError(
                "combine is 'dawid_skene', which learns from all votes how much each judge counts; leave out weights "
                "and stop_settled, or take 'vote'"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of all judges, `[judge]` first."""
        return (self.first_name, *(judge.name for judge in self.judges))

    @property
    def weights(self) -> tuple[float, ...]:
        """Of all judges, `[judge]` first."""
        return (self.first_weight, *(judge.weight for judge in self.judges))
