"""The frontier of reward and KL of one policy gradient: what it was trained by, and what was wanted, step by step.

Made from the completions that the training kept. The *proxy* is the reward of training; the *gold* reward is whatever
the caller knows better, such as a world's own truth, and takes no part in training. A step's interval is over its
prompts. Each step has prompts of its own, so that curves are fitted on points that are drawn independently. Left out:
how it is drawn (`frontier_page.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, mean
from evaluation.over_optimisation import Fitted, Points, fit_curve
from ratify.files import read_records
from ratify.types import Record, RolloutRecord

Gold = Callable[[RolloutRecord], float | None]
"""The gold reward of a completion; None where it is not known."""


class FrontierPoint(Record):
    """One rollout batch, before the policy learnt from it."""

    step: int
    kl: Estimate
    """Nats per completion; an estimate on the batch, which may be below zero near zero."""
    proxy: Estimate
    gold: Estimate | None = None


class RewardFrontier(Record):
    """All steps of one training."""

    title: str
    proxy: str
    """What the policy was trained by, in words."""
    gold: str
    """What is compared with it, in words; empty where nothing is."""
    points: tuple[FrontierPoint, ...]
    proxy_curve: Fitted | None = None
    gold_curve: Fitted | None = None
    note: str = ""
    """Why a curve is missing."""

    @property
    def conclusion(self) -> str:
        """What was seen, in a sentence or two."""
        first, last = self.points[0], self.points[-1]
        said = f"In {len(self.points)} steps to {last.kl.value:.2f} nats the {self.proxy} went from "
        said += f"{first.proxy.value:.3g} to {last.proxy.value:.3g}"
        if first.gold is None or last.gold is None:
            return f"{said}; nothing says whether the completions became better."
        best = max((point for point in self.points if point.gold), key=lambda point: point.gold.value)  # type: ignore[union-attr]
        assert best.gold is not None, "it was chosen by its gold reward"
        said += (
            f", and the {self.gold} from {first.gold.value:.3g} to {last.gold.value:.3g}, at most {best.gold.value:.3g}"
        )
        return f"{said} in step {best.step} at {best.kl.value:.2f} nats."

    @property
    def advice(self) -> str:
        """When to stop."""
        return self.gold_curve.peak.advice if self.gold_curve else self.note


def read_steps(folder: Path) -> list[list[RolloutRecord]]:
    """The completions of each step, in order.

    Raises:
        EvidenceError: none were kept.
    """
    files = sorted(folder.glob("step-*.jsonl"))
    if not files:
        raise EvidenceError(f"{folder}: no completions were kept; train with policy_gradient.keep_rollouts = true")
    return [read_records(path, RolloutRecord) for path in files]


def reward_frontier(
    title: str, steps: Sequence[Sequence[RolloutRecord]], *, proxy: str, gold: str = "", truth: Gold | None = None,
    how: Resampling = STANDARD,
) -> RewardFrontier:  # fmt: skip
    """The frontier of a training.

    Args:
        title: Of the page.
        steps: The completions of each step; those without a reward are left out, and steps without one too.
        proxy: What the reward is, in words.
        gold: What `truth` is, in words.
        truth: The gold reward.
        how: Confidence, draws, seed.

    Raises:
        EvidenceError: no completion has a reward.
    """
    points = [_point(number, rows, truth, how) for number, rows in enumerate(steps) if any(_scored(rows))]
    if not points:
        raise EvidenceError("reward frontier: no completion has a reward")
    known = [point for point in points if point.gold is not None]
    proxy_curve, note = _curve(points, [point.proxy for point in points], how)
    gold_curve, gold_note = _curve(known, [point.gold for point in known if point.gold], how) if known else (None, "")
    return RewardFrontier(
        title=title, proxy=proxy, gold=gold, points=tuple(points), proxy_curve=proxy_curve, gold_curve=gold_curve,
        note=gold_note or note or ("" if known else "no gold reward is known, so nothing can say when to stop"),
    )  # fmt: skip


def _scored(rows: Sequence[RolloutRecord]) -> list[RolloutRecord]:
    return [row for row in rows if row.reward is not None]


def _point(step: int, rows: Sequence[RolloutRecord], truth: Gold | None, how: Resampling) -> FrontierPoint:
    scored = _scored(rows)
    prompts = [row.prompt_id for row in scored]
    golds = [None if truth is None else truth(row) for row in scored]
    known = [(gold, prompt) for gold, prompt in zip(golds, prompts, strict=True) if gold is not None]
    return FrontierPoint(
        step=step,
        kl=mean([row.log_ratio for row in rows], [row.prompt_id for row in rows], how),
        proxy=mean([row.reward for row in scored if row.reward is not None], prompts, how),
        gold=mean([gold for gold, _ in known], [prompt for _, prompt in known], how) if known else None,
    )


def _curve(points: Sequence[FrontierPoint], values: Sequence[Estimate], how: Resampling) -> tuple[Fitted | None, str]:
    try:
        return fit_curve(
            Points(np.array([point.kl.value for point in points]), np.array([value.value for value in values])),
            "rl",
            how=how,
        ), ""
    except EvidenceError as too_little:
        return None, str(too_little)
