"""Several samples of text for servers that give no log-probabilities: each is read by its marked verdict line, and the
share of the answers becomes log-odds (`votes.py`).

The number of samples is in the judge's fingerprint, their seeds in the verdict's key. Lee et al. (2023, arXiv
2309.00267, Table 14) found that a single greedy answer with log-probabilities agrees better with people than sixteen
samples; this is for where there are none.
"""

from __future__ import annotations

import asyncio

from judges.readouts.reading import Reading, seed_of
from judges.readouts.verdict_text import TextVerdict, read_text
from judges.readouts.votes import WORDS, count_votes
from judges.rendering import Shown
from ratify.canonical import JsonValue
from ratify.client import CallFailed, ChatAnswer, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Failure

VERSION = "samples/1"


class SamplesReadout:
    """Asks k times at once; the client keeps to the endpoint's concurrency, and a batch file gets all k."""

    draws = True

    def __init__(self, section: JudgeSection) -> None:
        self.calls = section.drawn_samples
        self._words = WORDS[section.verdict_protocol]
        self._min_coverage = section.min_coverage
        self._max_tokens = section.text_tokens
        self._temperature = section.drawn_temperature

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The offered words, how many texts are drawn and how."""
        return {
            "readout": VERSION,
            "answers": list(self._words),
            "sampling": {"max_tokens": self._max_tokens, "temperature": self._temperature, "samples": self.calls},
        }

    def sample(self, base: str) -> JsonValue:
        """The seeds of the first attempt."""
        return [seed_of(base, number) for number in range(self.calls)]

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int) -> Reading:
        """k requests; asked again, k further seeds."""
        numbers = range(retry * self.calls, (retry + 1) * self.calls)
        draws = (self._draw(client, shown, seed_of(base, number)) for number in numbers)
        drawn: list[tuple[ChatAnswer, TextVerdict]] = []
        for each in await asyncio.gather(*draws, return_exceptions=True):
            if isinstance(each, BaseException):
                raise each
            drawn.append(each)
        return count_votes([answer for answer, _ in drawn], [verdict for _, verdict in drawn], self._min_coverage)

    async def _draw(self, client: ChatClient, shown: Shown, seed: int) -> tuple[ChatAnswer, TextVerdict]:
        """One text; a rubbish answer is one unreadable sample, while other faults fail the question."""
        try:
            answer = await client.chat(
                shown.messages, max_tokens=self._max_tokens, temperature=self._temperature, seed=seed
            )
        except CallFailed as failed:
            if failed.failure is not Failure.PARSE_ERROR:
                raise
            return ChatAnswer(failed.raw, "", 0, 0, None), TextVerdict(None, Failure.PARSE_ERROR)
        return answer, read_text(answer.text, self._words, shown.marker, answer.finish_reason)
