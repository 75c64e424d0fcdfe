"""A language model behind an OpenAI-compatible endpoint as judge: one principle per question, read out by the read-out
that the configuration names.

What the model is sent is in `rendering.py` and the template files, how it is read in `judges/readouts`, when it is
asked again in `reasks.py`. Left out: panels, and ranking several replies in one call (`ranking_judge.py`).
"""

from __future__ import annotations

from pathlib import Path

from constitutions.schema import Principle
from judges.questions import Question
from judges.readouts.reading import Reading
from judges.readouts.selection import SUFFIXES, make_readout
from judges.reasks import Attempt, last_attempt
from judges.rendering import JudgePrompt, Shown
from ratify.canonical import JsonValue, digest, model_digest
from ratify.client import CallFailed, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Completion, Failure, Prompt, Protocol, Verdict


class ModelJudge:
    """Asks a model over a chat client."""

    def __init__(
        self,
        section: JudgeSection,
        client: ChatClient | None = None,
        *,
        model_hash: str | None = None,
        prompts_dir: Path | None = None,
    ) -> None:
        """Without a client it knows its questions but answers none.

        `model_hash` identifies the weights; None hashes the section's model (a folder's files, or a name).

        Raises:
            ConfigError: a template is missing or faulty.
        """
        self.protocol: Protocol = section.verdict_protocol
        self.concurrency = section.concurrency
        self.max_reasks = section.max_reasks
        self._client = client
        self.min_coverage = section.min_coverage
        folder = prompts_dir or section.prompts_dir
        self.prompt = JudgePrompt(self.protocol, folder, suffix=SUFFIXES[section.readout])
        self._readout = make_readout(section, folder)
        self.identity = self._identify(section, model_hash or model_digest(section.model))
        self.fingerprint = digest(self.identity)

    def _identify(self, section: JudgeSection, model_hash: str) -> dict[str, JsonValue]:
        """What makes this judge answer as it does. The key of every verdict hashes it."""
        return {
            "kind": "model",
            "model": model_hash,
            "protocol": self.protocol,
            "template": self.prompt.hash,
            "salt": section.cache_salt,
            **self._readout.identity,
        }

    @property
    def calls_per_question(self) -> int:
        """Requests that one question takes when nothing fails; at most, where it depends on the answers."""
        return self._readout.calls

    def abstains(self, principle: Principle) -> bool:
        """A model has something to say about every principle."""
        return not principle.text

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None) -> str:
        """SHA-256 of the judge, the very text it is sent (the shown order is part of it) and the seeds it draws."""
        shown = self.prompt.show(principle, prompt, first, second)
        return digest({**self._asked(shown), "sample": self._readout.sample(self._base(shown))})

    def _asked(self, shown: Shown) -> dict[str, JsonValue]:
        return {"judge": self.fingerprint, "messages": [message.model_dump() for message in shown.messages]}

    def _base(self, shown: Shown) -> str:
        """What seeds follow from; not hashed where nothing is drawn."""
        return digest(self._asked(shown)) if self._readout.draws else ""

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
        shown = self.prompt.show(question.principle, question.prompt, question.first, question.second)
        try:
            reading = await self._readout.read(self._client, shown, self._base(shown), retry)
        except CallFailed as failed:
            # The client has repeated what can be mended, and a prompt that is too long stays too long.
            return Attempt(question.failed(self.fingerprint, failed.failure, failed.raw), again=False)
        return Attempt(verdict_of(question, self.fingerprint, reading), again=reading.again)


def verdict_of(question: Question, judge: str, reading: Reading) -> Verdict:
    """A reading as the verdict, or the failure, of a question."""
    tokens = {"prompt_tokens": reading.prompt_tokens, "completion_tokens": reading.completion_tokens}
    if reading.logit is None:
        failure = reading.failure or Failure.PARSE_ERROR
        return question.failed(judge, failure, reading.raw, coverage=reading.coverage, **tokens)
    return question.verdict(judge, logit=reading.logit, coverage=reading.coverage, raw=reading.raw, **tokens)
