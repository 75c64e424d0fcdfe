"""Answers without probabilities, counted: hard answers of one or more texts as log-odds.

    z = ln((first + ½) / (second + ½))

Half a vote on both sides is the Jeffreys prior's; it keeps unanimous votes finite, so that one lone answer counts
ln 3 = 1.10 (a probability of .75) and five of five ln 11 = 2.40 (.92). The coverage is the share of the texts that
could be read. Too few of them fail with the commonest reason; a text that could not be read is no vote for anybody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from judges.readouts.reading import RAW_CHARS, Reading
from judges.readouts.verdict_text import TextVerdict
from ratify.client import ChatAnswer
from ratify.types import Failure, Protocol

WORDS: dict[Protocol, tuple[str, str]] = {"pointwise": ("Yes", "No"), "pairwise": ("A", "B")}
"""The answers as a judge writes them; the first one is what positive log-odds favour."""


def vote_log_odds(first: int, second: int) -> float:
    """Log-odds of two counts."""
    return math.log((first + 0.5) / (second + 0.5))


def count_votes(answers: Sequence[ChatAnswer], verdicts: Sequence[TextVerdict], min_coverage: float) -> Reading:
    """One reading of several texts, in the order of `answers`."""
    votes = Counter(verdict.answer for verdict in verdicts if verdict.answer is not None)
    reasons: Counter[Failure] = Counter(verdict.failure for verdict in verdicts if verdict.failure is not None)
    coverage = votes.total() / len(verdicts)
    each = RAW_CHARS // len(answers)
    reading = Reading(coverage=coverage, raw=" ⏐ ".join(answer.text[-each:] for answer in answers)).paid(*answers)
    if not votes or coverage < min_coverage:
        return reading._replace(failure=reasons.most_common(1)[0][0], again=True)
    return reading._replace(logit=vote_log_odds(votes[0], votes[1]))
