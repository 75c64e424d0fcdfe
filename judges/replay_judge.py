"""A judge that answers from recorded verdicts and asks nobody: tests and demonstrations of policy run anywhere.

A recording is keyed by what the judge was shown: the principle as judges read it, the conversation and the replies
in the order shown. So a verdict is never replayed for a text it was not given about: an edited principle, another
conversation or a changed reply is a question that was not recorded, and that is a failure, never a tie.

Left out: recording what a server said word for word; a recorded verdict is already read, with its raw text beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from constitutions.hashes import principle_hash
from constitutions.schema import Principle
from judges.questions import Question
from ratify.canonical import JsonValue, digest
from ratify.errors import InputError
from ratify.files import read_records, write_records
from ratify.types import Completion, Failure, Prompt, Protocol, Record, Verdict

NOT_RECORDED = "this question was not recorded"


class RecordedVerdict(Record):
    """What a judge once said when it was shown something."""

    shown: str
    """SHA-256 of what the judge was shown (`shown_digest`)."""
    logit: float | None = None
    """Log-odds in favour of the first reply (pairwise) or of the reply meeting the principle (pointwise)."""
    coverage: float | None = None
    failure: Failure | None = None
    """Why there is no verdict."""
    raw: str = ""


class ReplayJudge:
    """Answers what is in its recording; everything else is a failed call."""

    min_coverage = 0.0
    concurrency = 1000
    """Verdicts that share one commit to the store."""

    def __init__(self, recorded: Iterable[RecordedVerdict], protocol: Protocol, name: str = "replay") -> None:
        """`name` says whose verdicts they are.

        Raises:
            InputError: the same question was recorded twice with different answers.
        """
        self.protocol: Protocol = protocol
        self._recorded = _by_shown(recorded)
        self.identity: dict[str, JsonValue] = {
            "kind": "replay",
            "name": name,
            "protocol": protocol,
            "recording": digest([each.model_dump(mode="json") for _, each in sorted(self._recorded.items())]),
        }
        self.fingerprint = digest(self.identity)

    def abstains(self, principle: Principle) -> bool:
        """Never: what it has no answer to is a failure that a person should see."""
        return not principle.text

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None, /) -> str:
        """SHA-256 of the recording and of what is shown."""
        return digest({"judge": self.fingerprint, "shown": shown_digest(principle, prompt, first, second)})

    async def answer(self, question: Question) -> Verdict:
        """Look the answer up."""
        shown = shown_digest(question.principle, question.prompt, question.first, question.second)
        found = self._recorded.get(shown)
        if found is None:
            return question.failed(self.fingerprint, Failure.TRANSPORT_ERROR, NOT_RECORDED)
        if found.logit is None:
            return question.failed(self.fingerprint, found.failure or Failure.PARSE_ERROR, found.raw)
        verdict = question.verdict(self.fingerprint, logit=found.logit, coverage=found.coverage)
        return verdict.model_copy(update={"raw": found.raw})


def shown_digest(principle: Principle, prompt: Prompt, first: Completion, second: Completion | None) -> str:
    """SHA-256 of what any judge reads of a question, whatever its template: no ids, only texts and their order."""
    return digest(
        {
            "principle": principle_hash(principle),
            "prompt": [message.model_dump() for message in prompt.messages],
            "first": first.text,
            "second": second.text if second else None,
        }
    )


def record_verdicts(questions: Mapping[str, Question], verdicts: Iterable[Verdict]) -> list[RecordedVerdict]:
    """Make a recording of a run: its questions by key, and its verdicts, failed ones too."""
    recorded = []
    for verdict in verdicts:
        question = questions[verdict.key]
        shown = shown_digest(question.principle, question.prompt, question.first, question.second)
        recorded.append(
            RecordedVerdict(
                shown=shown, logit=verdict.logit, coverage=verdict.coverage, failure=verdict.failure, raw=verdict.raw
            )
        )
    return recorded


def write_recording(path: Path, recorded: Iterable[RecordedVerdict]) -> None:
    """Write a recording as JSON lines, whole or not at all."""
    write_records(path, recorded)


def read_recording(path: Path) -> list[RecordedVerdict]:
    """Read back what `write_recording` wrote."""
    return read_records(path, RecordedVerdict)


def _by_shown(recorded: Iterable[RecordedVerdict]) -> dict[str, RecordedVerdict]:
    found: dict[str, RecordedVerdict] = {}
    for each in recorded:
        if found.setdefault(each.shown, each) != each:
            raise InputError(f"recording: question {each.shown[:12]} has two different answers; keep one of them")
    return found
