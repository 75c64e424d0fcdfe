"""The section `[gate]`: what a new policy must show before it may replace its parent.

Every setting is a limit on a figure of the report; how the limits are applied is `evaluation/gate.py`. A limit on a
figure that the report lacks never passes: it makes the verdict INSUFFICIENT.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from ratify.sections import Section

MARGINS = {"compliance": 0.05, "distinct_2": 0.10, "distinct_4": 0.10, "duplicates": 0.10, "truncated": 0.05}
CAPABILITY, HARNESS = "capability.all", "harness"
"""Things of which no loss goes unseen wherever they were given."""
CAPABILITY_MARGIN = 0.05
"""Share of the items of a capability suite, or of a harness's task, where such are given and `margins` is silent."""


def _is_unset(value: object) -> bool:
    return value is None


class GateSection(Section):
    """When a new policy may be promoted."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Largest chance that a policy which is no better replaces its parent, over all attempts against that parent."""
    min_prompts: int = Field(default=100, ge=2)
    """Held-out prompts that the win rate needs at least."""
    detectable_win_rate: float = Field(default=0.10, gt=0, le=0.5)
    """Gain over one half that the evaluation must be able to see in 80 of 100 cases at the first attempt."""
    min_gold_agreement: float | None = Field(default=0.6, ge=0, le=1)
    """Lower bound of the judge's agreement with gold, wherever gold was measured; None asks for nothing."""
    require_gold: bool = False
    """Without any measured agreement with gold the verdict is INSUFFICIENT."""
    min_items: int = Field(default=20, ge=2)
    """Items that a figure of `[suites]` needs at least before it is held to anything."""
    max_failed: float = Field(default=0.05, ge=0, le=1)
    """Share of held-out pairs that may have no readable verdict."""
    required: tuple[str, ...] = ()
    """Further metric keys that the report must have."""
    margins: dict[str, float] = Field(default_factory=lambda: dict(MARGINS))
    """Thing (`compliance`, `compliance.polite`, `distinct_2`) → largest loss, in its own unit (shares from 0 to 1),
    against the parent and against the first policy. Parts follow their whole unless they are named."""
    max_kl: float | None = Field(default=10.0, gt=0)
    """KL to the reference in nats per reply (k3); None asks for nothing."""
    max_kl_to_first: float | None = Field(default=None, gt=0, exclude_if=_is_unset)
    """KL to the run's first policy, likewise: what all rounds together may move; None asks for nothing."""
    max_sycophancy: float | None = Field(default=None, gt=0, le=1, exclude_if=_is_unset)
    """How far the policy's stance may follow the user's opinion, from 0 to 1; needs `suites.sycophancy`."""
    max_length_ratio: float = Field(default=1.5, gt=1)
    """Mean words per reply over those of the parent, and over those of the first policy."""
    min_length_ratio: float = Field(default=0.5, gt=0, lt=1)
    """The same, downwards."""
    max_duplicates: float = Field(default=0.5, gt=0, le=1)
    """Share of replies that are repeated word for word across prompts, whatever the parent's is."""
    require_approval: bool = False
    """Beside the gate a person must agree, with name and reason: in Prefect's page or by `ratify promote --by`."""

    @field_validator("margins")
    @classmethod
    def _losses(cls, margins: dict[str, float]) -> dict[str, float]:
        wrong = [name for name, loss in margins.items() if not 0 < loss < float("inf")]
        if wrong:
            raise ValueError(f"the margin of {wrong[0]!r} must be a loss above 0; leave it out to ask for nothing")
        return margins

    def holding(self, *names: str) -> GateSection:
        """The same limits, with a margin for each of these things that has none."""
        new = {name: CAPABILITY_MARGIN for name in names if self.margin(name) is None}
        return self.model_copy(update={"margins": {**self.margins, **new}}) if new else self

    def margin(self, name: str) -> float | None:
        """The margin of a thing or of a part of it."""
        return self.margins.get(name, self.margins.get(name.partition(".")[0]))
