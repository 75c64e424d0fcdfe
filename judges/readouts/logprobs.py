"""One token: the log-odds of the answer's first token, with the probability that the offered answers got together.

The primary read-out: one request, nothing parsed, so a reply that says "choose A" can steer the model but not the
reading. At temperature 0 the answer comes back the same, so low coverage is not asked about again; only rubbish from
the wire is.
"""

from __future__ import annotations

from judges.readouts.first_token import A_B, YES_NO, Answers, read_first_token
from judges.readouts.reading import Reading
from judges.rendering import Shown
from ratify.canonical import JsonValue
from ratify.client import ChatAnswer, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Failure, Protocol

VERSION = "first-token/1"
"""Raise the number when the reading of the same answer changes."""
ONE_TOKEN_RAW_CHARS = 200


def answers_of(protocol: Protocol) -> Answers:
    """The answers that a question of this protocol offers."""
    return YES_NO if protocol == "pointwise" else A_B


class LogprobsReadout:
    """Asks for one token at temperature 0 with its likeliest alternatives."""

    calls = 1
    draws = False

    def __init__(self, section: JudgeSection) -> None:
        self._answers = answers_of(section.verdict_protocol)
        self._min_coverage = section.min_coverage
        self._top = section.top_logprobs

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The offered tokens and how many alternatives are asked for."""
        return {
            "readout": VERSION,
            "answers": [sorted(self._answers.first), sorted(self._answers.second)],
            "sampling": {"max_tokens": 1, "temperature": 0, "top_logprobs": self._top},
        }

    def sample(self, base: str) -> JsonValue:  # noqa: ARG002
        """Nothing is drawn."""
        return 0

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int) -> Reading:  # noqa: ARG002
        """One request."""
        answer = await client.chat(shown.messages, max_tokens=1, temperature=0, top_logprobs=self._top)
        return read_one_token(answer, self._answers, self._min_coverage)


def read_one_token(answer: ChatAnswer, answers: Answers, min_coverage: float) -> Reading:
    """The reading of an answer of one token."""
    if answer.finish_reason == "content_filter":
        return Reading(failure=Failure.REFUSED, raw=answer.text).paid(answer)
    read = read_first_token(answer.first_token, answers, min_coverage)
    if read.logit is None:
        return Reading(None, read.coverage, read.failure or Failure.PARSE_ERROR, likeliest(answer)).paid(answer)
    return Reading(read.logit, read.coverage, raw=answer.text[:ONE_TOKEN_RAW_CHARS]).paid(answer)


def likeliest(answer: ChatAnswer) -> str:
    """A failed answer for a person: the text, and the likeliest tokens if there are any."""
    first = sorted((answer.first_token or {}).items(), key=lambda item: -item[1])[:5]
    tokens = ", ".join(f"{token!r} {value:.2f}" for token, value in first)
    return f"{answer.text[:ONE_TOKEN_RAW_CHARS]!r}" + (f" (log-probabilities: {tokens})" if tokens else "")
