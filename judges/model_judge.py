"""A language model behind an OpenAI-compatible endpoint as judge: one principle per question, read out by the read-out
that the configuration names.

What the model is sent is in `rendering.py` and the template files, how it is read in `judges/readouts`, when it is
asked again in `reasks.py`. Left out: panels, and ranking several replies in one call (`ranking_judge.py`).
"""

from __future__ import annotations

from pathlib import Path

from constitutions.schema import Principle
from judges.chat_judge import ChatJudge
from judges.questions import Question
from judges.readouts.selection import SUFFIXES, make_readout
from judges.reasks import Attempt
from judges.rendering import JudgePrompt, Shown
from ratify.canonical import digest
from ratify.client import ChatClient
from ratify.sections import JudgeSection
from ratify.types import Completion, Prompt


class ModelJudge(ChatJudge):
    """Asks about one reply, or about two in a shown order."""

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
        folder = prompts_dir or section.prompts_dir
        self.protocol = section.verdict_protocol
        self.prompt = JudgePrompt(self.protocol, folder, suffix=SUFFIXES[section.readout])
        self._readout = make_readout(section, folder)
        self.calls_per_question = self._readout.calls
        super().__init__(section, client, self.prompt, self._readout.identity, model_hash)

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None) -> str:
        """SHA-256 of the judge, the very text it is sent (the shown order is part of it) and the seeds it draws."""
        shown = self.prompt.show(principle, prompt, first, second)
        return digest({**self._asked(shown), "sample": self._readout.sample(self._base(shown))})

    def _base(self, shown: Shown) -> str:
        """What seeds follow from; not hashed where nothing is drawn."""
        return digest(self._asked(shown)) if self._readout.draws else ""

    async def _ask(self, client: ChatClient, question: Question, retry: int) -> Attempt:
        shown = self.prompt.show(question.principle, question.prompt, question.first, question.second)
        reading = await self._readout.read(client, shown, self._base(shown), retry)
        return Attempt(self._verdict(question, reading), again=reading.again)
