"""Checks before judges: where a principle's checks tell two replies apart, they decide and no judge is asked.

A reply *passes* a principle when it meets all of its checks. For a pair (a, b):

    one passes, the other does not    decided for the one that passes; no call
    both pass, or neither does        the checks cannot tell them apart; the judge is asked, as without checks

So a check is something that every good reply must meet (necessary, not sufficient). A decision has the log-odds that
the `rules` judge gives a reply that meets everything or nothing, +`CERTAINTY` and −`CERTAINTY` (a probability of 0.95
each), and pairwise their difference in both orders, so that both protocols lead to the same label; clamp, weights and
vetoes treat it like a verdict. The pair is what is decided, not the reply: a log-odds from a check beside one from a
judge could let the reply that failed win.

A principle whose checks are only hints says `checks_decide: false`. The `rules` judge is not preceded by checks: it
grades by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from constitutions.schema import Principle
from judges.aggregate import Bools, Floats, Outcomes
from judges.questions import Judge, Pair
from judges.rules_judge import CERTAINTY, RulesJudge
from ratify.types import Protocol


def precede(principle: Principle, judge: Judge) -> bool:
    """Whether a principle's checks are looked at before this judge is asked."""
    return bool(principle.checks) and principle.checks_decide and not isinstance(judge, RulesJudge)


def decided_by_checks(pairs: Sequence[Pair], principle: Principle, rows: Bools) -> Outcomes:
    """(N,): 1 where the checks decide for a, −1 for b, 0 where they do not decide; only `rows` (N,) are looked at.

    Raises:
        ConstitutionError: a check's search took too long.
    """
    decided = np.zeros(len(pairs), dtype=np.int8)
    passed: dict[str, bool] = {}
    for row in np.flatnonzero(rows).tolist():
        sides = []
        for reply in pairs[row]:
            if reply.text not in passed:
                passed[reply.text] = all(check.holds(reply.text) for check in principle.checks)
            sides.append(passed[reply.text])
        decided[row] = sides[0] - sides[1]
    return decided


def certain(decided: Outcomes, protocol: Protocol) -> Floats:
    """(N, 2): the log-odds of decisions, in the places of the two verdicts; NaN where nothing is decided."""
    size = CERTAINTY if protocol == "pointwise" else 2 * CERTAINTY
    side = np.where(decided == 0, np.nan, decided * size)
    return np.stack([side, -side], axis=1)
