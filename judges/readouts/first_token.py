"""The read-out: log-odds of a judge's answer from the log-probabilities of its first token.

Pure functions. An answer is the log of the summed probability of its token variants (`A`, ` A`, `(A`, …); the
log-odds are the difference of the two answers, log P(first) − log P(second), as in Constitutional AI (Bai et al.
2022, arXiv 2212.08073, §4.1) and RLAIF (Lee et al. 2023, arXiv 2309.00267, §2.1.1), which normalise over the two
labels. The *coverage* is the mass that both answers got together; a judge that puts its mass elsewhere has not
answered, and that is a failure, not a tie.

A server gives only its most likely tokens. An answer that is not among them has at most the smallest probability
given and at most the mass that is left; the smaller of the two bounds stands for it, so the log-odds are never
overstated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ratify.types import Failure

_LEADING = ("", " ", "(", " (", "[", "**", "\n", "▁", "Ġ")
"""What comes before an answer; the last two are how SentencePiece and byte-level BPE spell a space."""

_NO_CHANCE = -1000.0
"""vLLM writes -9999 where a token is impossible, because JSON has no infinity."""
_LEAST_MASS = 1e-9
"""Stands for the mass left over when rounding leaves none."""


class Answers(NamedTuple):
    """The two answers a judge is offered, as the set of tokens that mean each."""

    first: frozenset[str]
    second: frozenset[str]


class FirstToken(NamedTuple):
    """What the first token says."""

    logit: float | None
    """Log-odds in favour of the first answer; None with a failure."""
    coverage: float | None
    """Probability of the two answers together."""
    failure: Failure | None


class Weighed(NamedTuple):
    """What the first token says of any number of answers."""

    logs: tuple[float, ...] | None
    """Natural-log probability of each answer; None with a failure."""
    coverage: float | None
    """Probability of all answers together."""
    failure: Failure | None


def variants(*spellings: str) -> frozenset[str]:
    """The tokens that mean an answer, for each of its spellings."""
    return frozenset(lead + spelling for spelling in spellings for lead in _LEADING)


YES_NO = Answers(variants("Yes", "yes", "YES"), variants("No", "no", "NO"))
A_B = Answers(variants("A"), variants("B"))


def read_first_token(first_token: Mapping[str, float] | None, answers: Answers, min_coverage: float) -> FirstToken:
    """Read a verdict off the first token's natural-log probabilities by token text; failures as in `weigh`."""
    logs, coverage, failure = weigh(first_token, answers, min_coverage)
    return FirstToken(logs[0] - logs[1] if logs else None, coverage, failure)


def weigh(first_token: Mapping[str, float] | None, answers: Sequence[frozenset[str]], min_coverage: float) -> Weighed:
    """How likely each answer is by the first token's natural-log probabilities by token text.

    `no_logprobs`: the server gave none. `parse_error`: a value is no log-probability. `low_coverage`: no answer is
    among the tokens, or all together have less than `min_coverage`.
    """
    if not first_token:
        return Weighed(None, None, Failure.NO_LOGPROBS)
    values = first_token.values()
    # A sum is no number where a value is none, or where both infinities are among them; one of those is positive.
    if math.isnan(sum(values)) or max(values) > 1e-3:
        return Weighed(None, None, Failure.PARSE_ERROR)
    seen = [logsumexp([value for token, value in first_token.items() if token in answer]) for answer in answers]
    coverage = min(1.0, sum(map(math.exp, seen)))
    if coverage < min_coverage or coverage == 0.0:
        return Weighed(None, coverage, Failure.LOW_COVERAGE)
    if -math.inf in seen:
        unseen = _log_unseen(first_token)
        seen = [unseen if value == -math.inf else value for value in seen]
    return Weighed(tuple(seen), coverage, None)


def logsumexp(values: Iterable[float]) -> float:
    """log Σ exp(v), −inf for no values; what is as good as impossible does not count."""
    kept = [value for value in values if value > _NO_CHANCE]
    if not kept:
        return -math.inf
    top = max(kept)
    return top + math.log(sum(math.exp(value - top) for value in kept))


def _log_unseen(first_token: Mapping[str, float]) -> float:
    """An upper bound on the log-probability of a token that the server did not list."""
    listed = [value for value in first_token.values() if value > _NO_CHANCE]
    left = max(1.0 - math.exp(logsumexp(listed)), _LEAST_MASS)
    return min(*listed, math.log(left))
