"""What a training process asks of the process that has the judge, one JSON line each way.

Training knows prompts by id and completions by text; constitution, judge, verdict store and budget belong to the other
side. Left out: both ends (`training/asked_rewards.py`, `flows/stages/reward_service.py`).
"""

from __future__ import annotations

from ratify.types import Record

LONGEST_LINE = 2**28
"""Bytes of one request: a rollout batch of thousands of long completions fits."""


class RewardQuestion(Record):
    """One completion to score, or two of the same prompt to compare."""

    prompt_id: str
    first: str
    second: str | None = None
    """None asks for the score of `first`, else for P(first is better)."""


class RewardRequest(Record):
    """All questions that one reward has about a rollout batch."""

    reward: str
    """Its name in the configuration."""
    questions: tuple[RewardQuestion, ...]


class RewardAnswer(Record):
    """The answers in the order of the questions, or why there are none."""

    values: tuple[float | None, ...] = ()
    """None is an abstention."""
    fault: str = ""
    """One sentence; the process that asked must stop."""
