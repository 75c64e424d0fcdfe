"""A language model that is shown all completions of a prompt in one list and ranks them by one principle.

To everything behind it, it is a pairwise judge: each answer holds a verdict on every pair of its list, stored together
or not at all, and the list is shown forwards and backwards. Two calls a prompt and principle, whatever K; but a verdict
depends on which other completions stood in the list, so one more completion has all of them asked again
(docs/judges.md weighs it). Left out: several processes that ask, since they are sent pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from constitutions.schema import Principle
from judges.chat_judge import ChatJudge
from judges.listing import places
from judges.model_judge import ModelJudge
from judges.questions import Question
from judges.readouts.ranking import BestLetter, JsonRanking, RankingReadout
from judges.readouts.selection import SUFFIXES
from judges.reasks import Attempt
from judges.rendering import ListPrompt, Shown
from ratify.canonical import digest
from ratify.client import ChatClient
from ratify.sections import JudgeSection
from ratify.types import Completion, Prompt, Verdict


class RankingJudge(ChatJudge):
    """Asks about lists; a `judges.questions.Ranker`."""

    protocol = "pairwise"
    calls_per_question = 1

    def __init__(
        self,
        section: JudgeSection,
        client: ChatClient | None = None,
        *,
        model_hash: str | None = None,
        prompts_dir: Path | None = None,
    ) -> None:
        """Arguments and errors as of `ModelJudge`."""
        self.prompt = ListPrompt(prompts_dir or section.prompts_dir, suffix=SUFFIXES[section.readout])
        self._readout: RankingReadout = JsonRanking(section) if section.readout == "json" else BestLetter(section)
        super().__init__(section, client, self.prompt, self._readout.identity, model_hash)

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None) -> str:
        """That of a list of two."""
        assert second is not None, "a list has at least two completions"
        return self.list_key(principle, prompt, (first, second))

    def list_key(self, principle: Principle, prompt: Prompt, listed: Sequence[Completion]) -> str:
        """SHA-256 of the judge and the very text it is sent."""
        return self._base(self.prompt.show(principle, prompt, listed))

    def _base(self, shown: Shown) -> str:
        return digest(self._asked(shown))

    async def _ask(self, client: ChatClient, question: Question, retry: int) -> Attempt:
        shown = self.prompt.show(question.principle, question.prompt, question.listed)
        size = len(question.listed)
        worths, reading = await self._readout.read(client, shown, self._base(shown), retry, size)
        verdict = self._verdict(question, reading)
        return Attempt(verdict, reading.again, self._also(question, worths, verdict))

    def _also(self, question: Question, worths: Sequence[float], verdict: Verdict) -> tuple[Verdict, ...]:
        """What the answer says about all pairs but the first; nothing after a failure."""
        if not worths:
            return ()
        pairs = list(places(len(worths)))[1:]
        return tuple(
            verdict.model_copy(
                update={
                    "key": key,
                    "first_id": question.listed[first].id,
                    "second_id": question.listed[second].id,
                    "logit": worths[first] - worths[second],
                    "raw": "",
                    "prompt_tokens": 0,
                    "completion_tokens": 0,
                }
            )
            for key, (first, second) in zip(question.also, pairs, strict=True)
        )


def model_judge(
    section: JudgeSection, client: ChatClient | None = None, *, model_hash: str
) -> ModelJudge | RankingJudge:
    """The judge of kind `model` that a section's protocol names; arguments and errors as of `ModelJudge`."""
    kind = RankingJudge if section.protocol == "ranking" else ModelJudge
    return kind(section, client, model_hash=model_hash)
