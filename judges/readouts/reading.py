"""The interface of every read-out: what it is shown, what it gives back, and what it adds to the judge's identity.

A read-out asks a model once or more about one question and reads log-odds out of what comes back, or names the
failure. It knows neither keys nor stores. Asked again after a failure, a read-out of text draws another text.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from judges.rendering import Shown
from ratify.canonical import JsonValue, digest
from ratify.client import ChatAnswer, ChatClient
from ratify.types import Failure

RAW_CHARS = 2000
"""Characters of a text that are kept with its verdict."""
REASK_TEMPERATURE = 0.7
"""Greedy text would come back the same; asked again it is sampled at this temperature."""


class Reading(NamedTuple):
    """What one attempt said."""

    logit: float | None = None
    """Log-odds in favour of the first answer; None with a failure."""
    coverage: float | None = None
    """Probability of the offered answers (of samples, the share that could be read); None where nothing tells."""
    failure: Failure | None = None
    raw: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    again: bool = False
    """After a failure: another attempt may mend it."""

    def paid(self, *answers: ChatAnswer) -> Reading:
        """The same with the tokens of the answers that it took."""
        return self._replace(
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            completion_tokens=sum(answer.completion_tokens for answer in answers),
        )


class Readout(Protocol):
    """One way to ask a model and to read its answer."""

    calls: int
    """Requests per question when nothing fails; at most, where it depends on the answers."""
    draws: bool
    """Whether seeds matter, even if only when it is asked again."""

    @property
    def identity(self) -> dict[str, JsonValue]:
        """What of it decides the answers, for the judge's fingerprint: `readout`, `answers`, `sampling`, and more."""

    def sample(self, base: str) -> JsonValue:
        """What else the verdict's key holds: 0, or the seeds that are drawn with; `base` hashes what is shown."""

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int) -> Reading:
        """Ask and read; `retry` counts the attempts before this one.

        Raises:
            CallFailed: a request gave no usable answer.
            EndpointError: the fault concerns every call.
        """


def seed_of(base: str, number: int) -> int:
    """A seed in [0, 2³¹) for one draw of one question.

    It depends on what is shown, because draws of different questions from one seed would err together.
    """
    return int(digest({"base": base, "draw": number})[:8], 16) & 0x7FFFFFFF
