"""A score from 1 to 10 as the probability-weighted mean of the score tokens: direct RLAIF (Lee et al. 2023, arXiv
2309.00267, section 2.2.2).

    s = Σ i·P(i) / Σ P(i),  i = 1 … 10        the coverage is Σ P(i)
    log-odds z = ln(p / (1 − p)),  p = (s − ½) / 10

The paper rescales s to [−1, 1]; here a verdict is log-odds, so s is read as a share of the scale with half a step at
each end: it stays finite (|z| ≤ ln 19), is 0 at the middle of 5.5, and gives s back as 10·p + ½.

Some tokenizers write 10 as one token, others (Qwen, Gemma, Llama 2) as `1` and `0`. Where no single token is listed
and `1` has weight, a second request continues from `1` and splits its mass by what comes next: `0` makes 10, any other
digit makes a number off the scale, anything else leaves 1. A server that cannot continue an answer leaves the mass of
`1` ambiguous; it is then not counted at all, and the coverage tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from judges.readouts.first_token import logsumexp, variants
from judges.readouts.logprobs import likeliest
from judges.readouts.reading import Reading
from judges.readouts.turns import CONTINUE, continued, continues
from judges.rendering import Shown
from ratify.canonical import JsonValue
from ratify.client import ChatAnswer, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Failure

VERSION = "score/1"
HIGHEST = 10
SCORES = {score: variants(str(score)) for score in range(1, HIGHEST + 1)}
SPLIT_FROM = 1e-3
"""Less probability on the token `1` than this is not worth a second request."""


class ScoreReadout:
    """Asks for one number."""

    calls = 2
    draws = False

    def __init__(self, section: JudgeSection) -> None:
        self._min_coverage = section.min_coverage
        self._top = section.top_logprobs
        self._splits = continues(section)

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The offered scores, how many alternatives are asked for, and whether `1` can be told from `10`."""
        return {
            "readout": VERSION,
            "answers": [sorted(tokens) for tokens in SCORES.values()],
            "sampling": {"max_tokens": 1, "temperature": 0, "top_logprobs": self._top},
            "splits": self._splits,
        }

    def sample(self, base: str) -> JsonValue:  # noqa: ARG002
        """Nothing is drawn."""
        return 0

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int) -> Reading:  # noqa: ARG002
        """One request, two where `1` may be the start of 10."""
        answer = await client.chat(shown.messages, max_tokens=1, temperature=0, top_logprobs=self._top)
        if answer.finish_reason == "content_filter":
            return Reading(failure=Failure.REFUSED, raw=answer.text).paid(answer)
        if not answer.first_token:
            return Reading(failure=Failure.NO_LOGPROBS, raw=likeliest(answer)).paid(answer)
        masses = score_masses(answer.first_token)
        if masses[HIGHEST] > 0.0 or masses[1] < SPLIT_FROM:
            return self._read(masses, answer).paid(answer)
        if not self._splits:
            return self._read(split_one(masses, None), answer).paid(answer)
        more = await client.chat(
            continued(shown.messages, "1"), max_tokens=1, temperature=0, top_logprobs=self._top, extra_body=CONTINUE
        )
        return self._read(split_one(masses, more.first_token), answer).paid(answer, more)

    def _read(self, masses: Mapping[int, float], answer: ChatAnswer) -> Reading:
        coverage = min(1.0, math.fsum(masses.values()))
        if coverage < self._min_coverage or coverage == 0.0:
            return Reading(None, coverage, Failure.LOW_COVERAGE, likeliest(answer))
        score = mean_score(masses)
        return Reading(score_log_odds(score), coverage, raw=f"score {score:.4f}")


def score_masses(first_token: Mapping[str, float]) -> dict[int, float]:
    """Probability of each score by the natural-log probabilities of the first token."""
    return {
        score: math.exp(logsumexp(value for token, value in first_token.items() if token in tokens))
        for score, tokens in SCORES.items()
    }


def split_one(masses: Mapping[int, float], after: Mapping[str, float] | None) -> dict[int, float]:
    """Share the mass of the token `1` between 1 and 10 by what follows it; without that it counts for neither."""
    if after is None:
        return {**masses, 1: 0.0}
    zero = math.exp(logsumexp(value for token, value in after.items() if token.startswith("0")))
    digits = math.exp(logsumexp(value for token, value in after.items() if token[:1].isdecimal()))
    return {**masses, 1: masses[1] * max(1.0 - digits, 0.0), HIGHEST: masses[1] * zero}


def mean_score(masses: Mapping[int, float]) -> float:
    """The mean score, in [1, 10], over the mass on scores."""
    return math.fsum(score * mass for score, mass in masses.items()) / math.fsum(masses.values())


def score_log_odds(score: float) -> float:
    """Log-odds of a score in [1, 10] as a share of the scale."""
    share = (score - 0.5) / HIGHEST
    return math.log(share / (1.0 - share))
