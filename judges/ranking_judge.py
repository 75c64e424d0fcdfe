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
from judges.listing import places
from judges.model_judge import ModelJudge, verdict_of
from judges.questions import Question
from judges.readouts.ranking import BestLetter, JsonRanking, RankingReadout
from judges.readouts.selection import SUFFIXES
from judges.reasks import Attempt, last_attempt
from judges.rendering import ListPrompt, Shown
from ratify.canonical import JsonValue, digest, model_digest
from ratify.client import CallFailed, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Completion, Prompt, Protocol, Verdict


class RankingJudge:
    """Asks a model over a chat client about lists; a `judges.questions.Ranker`."""

    protocol: Protocol = "pairwise"
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
        self.concurrency = section.concurrency
        self.min_coverage = section.min_coverage
        self.max_reasks = section.max_reasks
        self._client = client
        self.prompt = ListPrompt(prompts_dir or section.prompts_dir, suffix=SUFFIXES[section.readout])
        self._readout: RankingReadout = JsonRanking(section) if section.readout == "json" else BestLetter(section)
        self.identity: dict[str, JsonValue] = {
            "kind": "model",
            "model": model_hash or model_digest(section.model),
            "protocol": "ranking",
            "template": self.prompt.hash,
            "salt": section.cache_salt,
            **self._readout.identity,
        }
        self.fingerprint = digest(self.identity)

    def abstains(self, principle: Principle) -> bool:
        """A model has something to say about every principle."""
        return not principle.text

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None) -> str:
        """That of a list of two."""
        assert second is not None, "a list has at least two completions"
        return self.list_key(principle, prompt, (first, second))

    def list_key(self, principle: Principle, prompt: Prompt, listed: Sequence[Completion]) -> str:
        """SHA-256 of the judge and the very text it is sent."""
        return self._base(self.prompt.show(principle, prompt, listed))

    def _base(self, shown: Shown) -> str:
        return digest({"judge": self.fingerprint, "messages": [message.model_dump() for message in shown.messages]})

    async def answer(self, question: Question) -> Verdict:
        """The verdict on the list's first two.

        Raises:
            EndpointError: the fault concerns every call.
        """
        return await last_attempt(self, question)

    async def attempt(self, question: Question, retry: int) -> Attempt:
        """Ask once about a list; `retry` counts the attempts before.

        Raises:
            EndpointError: the fault concerns every call.
        """
        assert self._client is not None, "a judge without a client only writes questions"
        shown = self.prompt.show(question.principle, question.prompt, question.listed)
        try:
            worths, reading = await self._readout.read(
                self._client, shown, self._base(shown), retry, len(question.listed)
            )
        except CallFailed as failed:
            return Attempt(question.failed(self.fingerprint, failed.failure, failed.raw), again=False)
        verdict = verdict_of(question, self.fingerprint, reading)
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
