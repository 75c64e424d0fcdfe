"""What judges that ask a language model over a chat client share, whatever they show it: their settings and identity,
asking again, and a reading as a verdict.

Left out: what is shown and how it is read (`model_judge.py`, `ranking_judge.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from constitutions.schema import Principle
from judges.questions import Question
from judges.readouts.reading import Reading
from judges.reasks import Attempt, last_attempt
from judges.rendering import JudgePrompt, ListPrompt, Shown
from ratify.canonical import JsonValue, digest, model_digest
from ratify.client import CallFailed, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Completion, Failure, Prompt, Protocol, Verdict


class ChatJudge(ABC):
    """Asks a model over a chat client."""

    protocol: Protocol
    calls_per_question: int
    """Requests that one question takes when nothing fails; at most, where it depends on the answers."""

    def __init__(
        self,
        section: JudgeSection,
        client: ChatClient | None,
        prompt: JudgePrompt | ListPrompt,
        readout: dict[str, JsonValue],
        model_hash: str | None,
    ) -> None:
        """Without a client it knows its questions but answers none.

        `readout` is the read-out's identity; `model_hash` identifies the weights, None hashes the section's model.
        """
        self.concurrency = section.concurrency
        self.min_coverage = section.min_coverage
        self.max_reasks = section.max_reasks
        self._client = client
        self.identity: dict[str, JsonValue] = {
            "kind": "model",
            "model": model_hash or model_digest(section.model),
            "protocol": section.protocol,
            "template": prompt.hash,
            "salt": section.cache_salt,
            **readout,
        }
        """What makes this judge answer as it does. The key of every verdict hashes it."""
        self.fingerprint = digest(self.identity)

    def abstains(self, principle: Principle) -> bool:
        """A model has something to say about every principle."""
        return not principle.text

    @abstractmethod
    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None, /) -> str:
        """SHA-256 of everything the judge would see."""

    def _asked(self, shown: Shown) -> dict[str, JsonValue]:
        return {"judge": self.fingerprint, "messages": [message.model_dump() for message in shown.messages]}

    async def answer(self, question: Question) -> Verdict:
        """Ask, and again where that may mend a failure.

        Raises:
            EndpointError: the fault concerns every call.
        """
        return await last_attempt(self, question)

    async def attempt(self, question: Question, retry: int) -> Attempt:
        """Ask once; `retry` counts the attempts before.

        Raises:
            EndpointError: the fault concerns every call.
        """
        assert self._client is not None, "a judge without a client only writes questions"
        try:
            return await self._ask(self._client, question, retry)
        except CallFailed as failed:
            # The client has repeated what can be mended, and a prompt that is too long stays too long.
            return Attempt(question.failed(self.fingerprint, failed.failure, failed.raw), again=False)

    @abstractmethod
    async def _ask(self, client: ChatClient, question: Question, retry: int) -> Attempt:
        """Show the question and read the answer."""

    def _verdict(self, question: Question, reading: Reading) -> Verdict:
        """A reading as the verdict, or the failure, of a question."""
        failed = reading.logit is None
        return question.record(
            self.fingerprint,
            logit=reading.logit,
            failure=reading.failure or Failure.PARSE_ERROR if failed else None,
            coverage=reading.coverage,
            raw=reading.raw,
            prompt_tokens=reading.prompt_tokens,
            completion_tokens=reading.completion_tokens,
        )
