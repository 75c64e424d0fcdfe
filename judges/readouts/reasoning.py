"""Chain of thought in two calls: the judge reasons in free text, then its answer is read off one token's
log-probabilities (Constitutional AI, Bai et al. 2022, arXiv 2212.08073, section 4.1; RLAIF, Lee et al. 2023, arXiv
2309.00267, section 2.1).

The reasoning is greedy and never parsed; the second call repeats the conversation, which a prefix cache has, and asks
for one token after `Final answer:`. Where a server cannot continue a message, a second user turn asks. A judge that has
reasoned is sure of itself: Constitutional AI clamps such labels to 40–60 %; `aggregate.clamp` of the constitution does.
A text that was cut off or declines is a failure, and is drawn again at a temperature.
"""

from __future__ import annotations

from pathlib import Path

from judges.readouts.logprobs import answers_of, read_one_token
from judges.readouts.reading import RAW_CHARS, REASK_TEMPERATURE, Reading, seed_of
from judges.readouts.turns import CONTINUE, continued, continues
from judges.readouts.verdict_text import declines, without_thoughts
from judges.rendering import Shown, TurnPrompt
from ratify.canonical import JsonValue
from ratify.client import ChatAnswer, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Failure, Message

VERSION = "reasoning/1"
LEAD_IN = "\n\nFinal answer:"
"""No space at its end: the space belongs to the answer's token."""


class ReasoningReadout:
    """Asks twice."""

    calls = 2
    draws = True

    def __init__(self, section: JudgeSection, folder: Path | None = None) -> None:
        self._answers = answers_of(section.verdict_protocol)
        self._min_coverage = section.min_coverage
        self._top = section.top_logprobs
        self._max_tokens = section.text_tokens
        self._turn = None if continues(section) else TurnPrompt(section.verdict_protocol, folder)

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Both calls, and how the second one is made."""
        return {
            "readout": VERSION,
            "answers": [sorted(self._answers.first), sorted(self._answers.second)],
            "sampling": {"max_tokens": self._max_tokens, "temperature": 0, "top_logprobs": self._top},
            "second_call": {"turn": self._turn.hash} if self._turn else {"continues": LEAD_IN},
        }

    def sample(self, base: str) -> JsonValue:  # noqa: ARG002
        """Nothing is drawn unless a first attempt failed."""
        return 0

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int) -> Reading:
        """The text, then the token."""
        thought = await client.chat(
            shown.messages,
            max_tokens=self._max_tokens,
            temperature=REASK_TEMPERATURE if retry else 0,
            seed=seed_of(base, retry) if retry else None,
        )
        failure = _failure(thought)
        if failure:
            return Reading(failure=failure, raw=thought.text[:RAW_CHARS], again=True).paid(thought)
        answer = await self._answer(client, shown, thought.text.rstrip())
        reading = read_one_token(answer, self._answers, self._min_coverage)
        return reading._replace(
            raw=f"{thought.text[:RAW_CHARS]} ⟶ {reading.raw}",
            again=reading.failure in (Failure.LOW_COVERAGE, Failure.REFUSED),
        ).paid(thought, answer)

    async def _answer(self, client: ChatClient, shown: Shown, thought: str) -> ChatAnswer:
        if self._turn is None:
            messages = continued(shown.messages, thought + LEAD_IN)
        else:
            messages = (*continued(shown.messages, thought), Message(role="user", content=self._turn.text))
        extra_body = None if self._turn else CONTINUE
        return await client.chat(messages, max_tokens=1, temperature=0, top_logprobs=self._top, extra_body=extra_body)


def _failure(thought: ChatAnswer) -> Failure | None:
    """Why a text is no reasoning to build on."""
    if thought.finish_reason == "length":
        return Failure.TRUNCATED
    if thought.finish_reason == "content_filter" or declines(without_thoughts(thought.text)):
        return Failure.REFUSED
    return None if thought.text.strip() else Failure.PARSE_ERROR
