"""Rewards that a function can verify: the right answer, a pattern, a length; abstaining lies between right and wrong.

With wrong < abstain < right, answering pays only where the chance to be right exceeds
(abstain − wrong)/(right − wrong); with abstain = wrong every guess pays. Left out: units, mathematics by a solver.
"""

from __future__ import annotations

import re

from ratify.policy_gradient_section import ExactAnswerSpec, LengthSpec, RegexSpec
from training.rewards import Rollout


def exact_answer(spec: ExactAnswerSpec, rollout: Rollout) -> float | None:
    """`right` if the text's answer is the row's, `abstain` if it declines, else `wrong`; None for a row without answer.

    The answer is the first group of `pattern` (or its whole match). Numbers are compared as numbers, so 7.0 is 7; other
    answers without regard to case and outer blanks.
    """
    if rollout.item.answer is None:
        return None
    if spec.abstain_pattern and re.search(spec.abstain_pattern, rollout.text, re.DOTALL):
        return spec.abstain
    found = re.search(spec.pattern, rollout.text, re.DOTALL)
    if found is None:
        return spec.wrong
    given = found.group(1) if found.re.groups else found.group(0)
    return spec.right if _normal(given) == _normal(rollout.item.answer) else spec.wrong


def pattern_found(spec: RegexSpec, rollout: Rollout) -> float:
    """1 where the pattern occurs, or with `present = false` where it does not."""
    return float((re.search(spec.pattern, rollout.text) is not None) == spec.present)


def length_within(spec: LengthSpec, rollout: Rollout) -> float:
    """1 within the bounds, falling linearly to 0 over `slack` tokens outside; counts the token that ended it."""
    count = len(rollout.sampled.tokens)
    outside = max(spec.min_tokens - count, count - spec.max_tokens, 0)
    return max(0.0, 1 - outside / spec.slack) if spec.slack else float(outside == 0)


def _normal(answer: str) -> float | str:
    try:
        return float(answer)
    except ValueError:
        return answer.strip().casefold()
