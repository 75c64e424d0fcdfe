"""The conversation that asks for a critique, and the one that asks for the revision after it.

As in Constitutional AI (Bai et al. 2022, section 3.1) critique and revision are further turns of the conversation
itself, and worked examples go before it, because a model otherwise confuses who speaks. The last revision takes the
reply's place before the next step, so every step is the same short dialogue. The two template files say in which form
the answer is wanted; examples are asked through them too. A system message stays first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from generation.revision_records import RevisionExample, RevisionRequest
from ratify.canonical import digest
from ratify.templates import fill, load_template
from ratify.types import Message, Prompt

PROMPT_FOLDER = Path(__file__).parent / "prompts"


class RevisionScript:
    """The examples and the templates; its `hash` is part of what a revision depends on."""

    def __init__(self, examples: Sequence[RevisionExample] = ()) -> None:
        self._critique, self._revision = (
            load_template(PROMPT_FOLDER / f"{name}.txt") for name in ("critique", "revision")
        )
        self._examples = [message for example in examples for message in self._shown(example)]
        self.hash = digest([self._critique, self._revision, [each.model_dump() for each in self._examples]])

    def critique(self, prompt: Prompt, reply: str, request: RevisionRequest) -> list[Message]:
        """Ends where the critique of `reply` is to come."""
        leading = [message for message in prompt.messages[:1] if message.role == "system"]
        dialogue = prompt.messages[len(leading) :]
        asked = _user(fill(self._critique, {"request": request.critique}))
        return [*leading, *self._examples, *dialogue, _assistant(reply), asked]

    def revision(self, asked: Sequence[Message], critique: str, request: RevisionRequest) -> list[Message]:
        """Ends where the revision is to come; `asked` is the conversation that got the critique."""
        return [*asked, _assistant(critique), _user(fill(self._revision, {"request": request.revision}))]

    def _shown(self, example: RevisionExample) -> Iterator[Message]:
        yield _user(example.prompt)
        yield _assistant(example.reply)
        yield _user(fill(self._critique, {"request": example.critique_request}))
        yield _assistant(example.critique)
        yield _user(fill(self._revision, {"request": example.revision_request}))
        yield _assistant(example.revision)


def messages_hash(messages: Sequence[Message]) -> str:
    """SHA-256 of a conversation."""
    return digest([message.model_dump() for message in messages])


def _user(content: str) -> Message:
    return Message(role="user", content=content)


def _assistant(content: str) -> Message:
    return Message(role="assistant", content=content)
