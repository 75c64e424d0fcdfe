"""What the verdicts about one completion add up to, for who needs a score and not a label: training with a judge as
the reward (d-RLAIF, arXiv 2309.00267).

    score(x) = M over the weighed principles that apply, of the clamped log-odds z_i(x)

with M the pool of `aggregate.py`. With `logit_mean` and `logit_sum` and without a veto, score(a) − score(b) is exactly
the margin of the label of (a, b), so that a policy is rewarded by what its labels would say.

A *hard* principle that the completion breaks by `veto_margin` or more cannot be made up for: the score is then at most
the pool of the broken hard principles of the highest tier. A completion that fails a principle's deciding checks has
broken it, and no judge is asked: its log-odds are −`CERTAINTY`, or the lower end of `clamp` where that is further out.
A score is missing where a weighed principle's verdict is, or where none applies; it is never 0.

Left out: who asks (`flows/stages/reward_judging.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from constitutions.schema import Constitution, Principle
from judges.aggregate import Bools, Floats, clamped, logit, pool
from judges.checked import precede
from judges.questions import Judge
from judges.rules_judge import CERTAINTY
from ratify.types import Prompt


def completion_scores(z: Floats, asked: Bools, principles: tuple[Principle, ...], constitution: Constitution) -> Floats:
    """(N,): one score for each of N completions; NaN where there is none.

    Args:
        z: (N, P) log-odds that a completion meets a principle; NaN is a missing verdict.
        asked: (N, P): the principle speaks about the completion.
        principles: The P principles.
        constitution: Whose clamp, method, tiers and veto margin count.
    """
    z = clamped(z, constitution)
    decides = np.array([principle.decides for principle in principles], dtype=np.bool_)
    weighed: Bools = asked & decides
    missing = (weighed & np.isnan(z)).any(axis=1) | ~weighed.any(axis=1)
    weighed = np.where(missing[:, None], False, weighed)
    score = pool(z, weighed, principles, constitution)
    broken = weighed & _broken(z, principles, constitution)
    veto = broken.any(axis=1)
    worst = pool(z, _highest(broken, principles, constitution), principles, constitution)
    return np.where(missing, np.nan, np.where(veto, np.minimum(score, worst), score))


def asked_about(prompts: Sequence[Prompt], principles: Sequence[Principle], judge: Judge) -> Bools:
    """(N, P): the principle can move a score, is for the completion's prompt, and the judge does not abstain."""
    spoken = [principle.decides and not judge.abstains(principle) for principle in principles]
    rows = [
        [speaks and principle.applies_to.covers(prompt) for speaks, principle in zip(spoken, principles, strict=True)]
        for prompt in prompts
    ]
    return np.array(rows, dtype=np.bool_).reshape(len(prompts), len(principles))


def breach(principle: Principle, text: str, judge: Judge, constitution: Constitution) -> float | None:
    """The log-odds of a completion that fails the principle's deciding checks; None where the judge has to say.

    Raises:
        ConstitutionError: a check's search took too long.
    """
    if not precede(principle, judge) or all(check.holds(text) for check in principle.checks):
        return None
    clamp = constitution.aggregate.clamp
    return -CERTAINTY if clamp is None else min(-CERTAINTY, logit(clamp[0]))


def share_of_checks(text: str, prompt: Prompt, principles: Sequence[Principle]) -> float | None:
    """Σ w of the principles whose checks are all met / Σ w of those that have checks and are for the prompt.

    None where there is no such principle: nothing could be checked.

    Raises:
        ConstitutionError: a check's search took too long.
    """
    found = [p for p in principles if p.checks and p.decides and p.applies_to.covers(prompt)]
    total = sum(principle.weight for principle in found)
    met = sum(principle.weight for principle in found if all(check.holds(text) for check in principle.checks))
    return met / total if found else None


def _broken(z: Floats, principles: tuple[Principle, ...], constitution: Constitution) -> Bools:
    rules = constitution.aggregate
    strict = np.array([each.severity == "hard" and rules.hard == "veto" for each in principles], dtype=np.bool_)
    size = np.nan_to_num(z)
    broken: Bools = strict & (size < 0) & (-size >= rules.veto_margin)
    return broken


def _highest(broken: Bools, principles: tuple[Principle, ...], constitution: Constitution) -> Bools:
    """Of the broken principles those of the highest tier."""
    ranks = np.array([constitution.tier_rank(principle) for principle in principles], dtype=np.int64)
    of_broken = np.where(broken, ranks, len(constitution.tiers) + 1)
    top: Bools = broken & (of_broken == of_broken.min(axis=1, keepdims=True))
    return top
