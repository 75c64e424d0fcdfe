"""Asking again: which failures are worth it, how often, and what is kept of each attempt.

| failure | asked again |
|---|---|
| text that says no verdict (parse_error), declines (refused) or was cut off (truncated) | yes; it is drawn anew |
| low_coverage after reasoning | yes: other reasoning may end in an answer |
| low_coverage, no_logprobs, refused of a single greedy token | no: it would come back the same |
| truncated, because the prompt exceeds the context | no |
| transport_error, rubbish from the wire (parse_error) | no: repeating a request is the client's part |

Every failed attempt is a typed failure with its raw text and a key that holds its retry number; none is a verdict. The
verdict that stands in the end, or the last failure, has the question's own key, and the tokens of all its attempts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, cast

from judges.questions import Judge, Question
from ratify.canonical import digest
from ratify.types import Verdict


class Attempt(NamedTuple):
    """What one attempt gave."""

    verdict: Verdict
    again: bool
    """A failure that another attempt may mend."""
    also: tuple[Verdict, ...] = ()
    """What the same answer says of other pairs of a list, without tokens of their own."""


Keep = Callable[..., Awaitable[None]]
"""Given the verdicts of one attempt, which belong together; returns once they are kept."""


class AsksAgain(Protocol):
    """A judge that can be asked the same question once more."""

    max_reasks: int

    async def attempt(self, question: Question, retry: int) -> Attempt:
        """Ask once; `retry` counts the attempts before."""


async def ask(judge: Judge, question: Question, keep: Keep) -> Verdict:
    """Ask until a verdict or the last failure stands under the question's key, and return that; `keep` gets what every
    attempt gave and is waited for.

    Raises:
        EndpointError: the fault concerns every call.
    """
    if not hasattr(judge, "attempt"):  # isinstance of a protocol is slow, and every question comes here
        verdict = await judge.answer(question)
        await keep(verdict)
        return verdict
    asks_again = cast("AsksAgain", judge)
    prompt_tokens = completion_tokens = retry = 0
    while True:
        verdict, again, also = await asks_again.attempt(question, retry)
        prompt_tokens += verdict.prompt_tokens
        completion_tokens += verdict.completion_tokens
        if verdict.failure is None or not again or retry == asks_again.max_reasks:
            tokens = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
            last = verdict.model_copy(update=tokens) if retry else verdict
            await keep(*also, last)
            return last
        await keep(verdict.model_copy(update={"key": attempt_key(question.key, retry)}))
        retry += 1


async def last_attempt(judge: Judge, question: Question) -> Verdict:
    """The verdict that stands in the end; for who keeps that one alone, its raw text holds the failed attempts too."""
    kept: list[Verdict] = []

    async def keep(*verdicts: Verdict) -> None:
        kept.append(verdicts[-1])

    last = await ask(judge, question, keep)
    *failed, _ = kept
    told = [f"[attempt {number}: {verdict.failure}: {verdict.raw}]" for number, verdict in enumerate(failed, 1)]
    return last.model_copy(update={"raw": "\n".join([*told, last.raw])})


def attempt_key(question_key: str, retry: int) -> str:
    """SHA-256 under which a failed attempt that was followed by another is kept."""
    return digest({"question": question_key, "retry": retry})
