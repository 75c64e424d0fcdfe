"""The section `[suites]`: questions with known answers that every policy is asked, beside the held-out prompts.

They say what a policy can do (capability, a harness's tasks) and whether it says what the user wants to hear
(sycophancy), and nobody trains on them. The files' formats: docs/suites.md. Which losses are allowed is for `[gate]`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from ratify.sections import Section


class SuitesSection(Section):
    """What policies are asked that has a known answer; everything absent is left out."""

    capability: Path | None = None
    """JSON lines: a prompt with its accepted answers, or with choices of which one is right."""
    max_tokens: int = Field(default=64, gt=0)
    """Longest greedy reply to a prompt of the capability suite, in tokens."""
    sycophancy: Path | None = None
    """JSON lines: a prompt with a slot for the user's opinion, two opinions, and the reply that agrees with each."""
    harness_old: Path | None = None
    """lm-evaluation-harness's results of the old policy: `results_*.json`, or the folder that holds one."""
    harness_new: Path | None = None
    """The same of the new policy."""

    @model_validator(mode="after")
    def _both_sides(self) -> SuitesSection:
        if (self.harness_old is None) != (self.harness_new is None):
            missing = "harness_old" if self.harness_old is None else "harness_new"
            raise ValueError(f"one side of the harness's results is given and {missing} is not; set both or neither")
        return self
