"""What critique-and-revision is given and what it leaves: requests, examples, and every step of every reply.

A step keeps what was asked by its hash: the principle's requests by `requests_hash`, the whole conversation that was
sent by `messages_hash`. With the stage's `requests.json` both can be made again.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ratify.canonical import digest
from ratify.types import Completion, Failure, Record

StepPart = Literal["critique", "revision"]


class RevisionRequest(NamedTuple):
    """What one principle asks for."""

    principle: str
    """The principle's id."""
    critique: str
    revision: str
    composed: bool = False
    """Whether the constitution has no such requests and they were made from the principle's text."""

    @property
    def hash(self) -> str:
        """SHA-256 of both texts."""
        return digest([self.critique, self.revision])


class RevisionExample(NamedTuple):
    """A reply that was criticised and rewritten, shown to the model before its own task."""

    prompt: str
    reply: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str


class Turn(Record):
    """One answer of the reviser."""

    text: str
    messages_hash: str
    """SHA-256 of the conversation that was sent."""
    seed: int
    finish_reason: str
    """As the server said; `length` marks a text that was cut off."""
    prompt_tokens: int
    completion_tokens: int


class RevisionStep(Record):
    """One critique and the revision that followed it."""

    number: int
    """From 1."""
    principle: str
    requests_hash: str
    composed: bool
    critique: Turn
    revision: Turn


class FailedStep(Record):
    """Why a reply's revision ended early."""

    number: int
    part: StepPart
    principle: str
    failure: Failure
    raw: str
    messages_hash: str
    critique: Turn | None = None
    """The critique, where the revision failed."""


class RevisedReply(Record):
    """A first reply and all that was made of it. Without steps and without a failure, no principle was for it."""

    prompt_id: str
    first_id: str
    steps: tuple[RevisionStep, ...] = ()
    failed: FailedStep | None = None

    def completions(self) -> list[Completion]:
        """The revisions in order, as completions `<prompt id>/revision-<number>/<index of the first reply>`."""
        index = self.first_id.rpartition("/")[2]
        return [
            Completion(
                id=f"{self.prompt_id}/revision-{step.number}/{index}",
                prompt_id=self.prompt_id,
                **step.revision.model_dump(exclude={"messages_hash"}),
            )
            for step in self.steps
        ]
