"""A language model behind an OpenAI-compatible endpoint as judge: one principle per call, one token read out.

Each call asks for one token at temperature 0 with its most likely alternatives; nothing the model would go on to say
is parsed, so a reply that says "choose A" cannot steer the reading, only the model. Left out: reasoning before the
answer, structured output, several samples, panels; each would be another read-out in the fingerprint.
"""

from __future__ import annotations

from pathlib import Path

from constitutions.schema import Principle
from judges.questions import Question
from judges.readout import A_B, YES_NO, read_first_token
from judges.rendering import JudgePrompt
from ratify.canonical import JsonValue, digest, model_digest
from ratify.client import CallFailed, ChatAnswer, ChatClient
from ratify.sections import JudgeSection
from ratify.types import Completion, Failure, Prompt, Protocol, Verdict

READOUT = "first-token/1"
"""Raise the number when the reading of the same answer changes."""
RAW_CHARS = 200
"""Characters of an answer that are kept with its verdict."""


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
        """
        self.protocol: Protocol = section.protocol
        self.concurrency = section.concurrency
        self.top_logprobs = section.top_logprobs
        self._client = client
        self.min_coverage = section.min_coverage
        self._prompt = JudgePrompt(section.protocol, prompts_dir or section.prompts_dir)
        self._answers = YES_NO if section.protocol == "pointwise" else A_B
        self.identity = self._identify(section, model_hash or model_digest(section.model))
        self.fingerprint = digest(self.identity)

    def _identify(self, section: JudgeSection, model_hash: str) -> dict[str, JsonValue]:
        """What makes this judge answer as it does. The key of every verdict hashes it."""
        return {
            "kind": "model",
            "model": model_hash,
            "protocol": section.protocol,
            "template": self._prompt.hash,
            "readout": READOUT,
            "answers": [sorted(self._answers.first), sorted(self._answers.second)],
            "sampling": {"max_tokens": 1, "temperature": 0, "top_logprobs": self.top_logprobs},
            "salt": section.cache_salt,
        }

    def abstains(self, principle: Principle) -> bool:
        """A model has something to say about every principle."""
        return not principle.text

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None) -> str:
        """SHA-256 of the judge and the very text it is sent. The order shown is part of that text."""
        text = [message.model_dump() for message in self._prompt.messages(principle, prompt, first, second)]
        return digest({"judge": self.fingerprint, "messages": text, "sample": 0})

    async def answer(self, question: Question) -> Verdict:
        """Ask, and read the first token.

        Raises:
            EndpointError: the fault concerns every call.
        """
        assert self._client is not None, "a judge without a client only writes questions"
        messages = self._prompt.messages(question.principle, question.prompt, question.first, question.second)
        try:
            answer = await self._client.chat(messages, max_tokens=1, temperature=0, top_logprobs=self.top_logprobs)
        except CallFailed as failed:
            return question.failed(self.fingerprint, failed.failure, failed.raw)
        counts = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
        return self._read(question, answer).model_copy(update=counts)

    def _read(self, question: Question, answer: ChatAnswer) -> Verdict:
        if answer.finish_reason == "content_filter":
            return question.failed(self.fingerprint, Failure.REFUSED, answer.text)
        read = read_first_token(answer.first_token, self._answers, self.min_coverage)
        if read.logit is None:
            failure = read.failure or Failure.PARSE_ERROR
            return question.failed(self.fingerprint, failure, _shown(answer)).model_copy(
                update={"coverage": read.coverage}
            )
        verdict = question.verdict(self.fingerprint, logit=read.logit, coverage=read.coverage)
        return verdict.model_copy(update={"raw": answer.text[:RAW_CHARS]})


def _shown(answer: ChatAnswer) -> str:
    """A failed answer for a person: the text, and the likeliest tokens if there are any."""
    likeliest = sorted((answer.first_token or {}).items(), key=lambda item: -item[1])[:5]
    tokens = ", ".join(f"{token!r} {value:.2f}" for token, value in likeliest)
    return f"{answer.text[:RAW_CHARS]!r}" + (f" (log-probabilities: {tokens})" if tokens else "")
