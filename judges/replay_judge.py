"""A judge that answers from recorded verdicts and asks nobody: tests and demonstrations of policy run anywhere.

A recording is keyed by what the judge was shown: the principle as judges read it, the conversation and the replies
in the order shown. So a verdict is never replayed for a text it was not given about: an edited principle, another
conversation or a changed reply is a question that was not recorded, and that is a failure, never a tie.

Left out: recording what a server said word for word; a recorded verdict is already read, with its raw text beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from constitutions.hashes import principle_hash
from constitutions.schema import Principle
from judges.questions import Question, Questionnaire
from ratify.canonical import JsonValue, digest
from ratify.errors import InputError
from ratify.files import write_records
from ratify.types import Completion, Failure, Prompt, Protocol, Record, Verdict

NOT_RECORDED = "this question was not recorded"
"""How the raw text of such a failure begins."""


class RecordedVerdict(Record):
    """What a judge once said when it was shown something."""

    shown: str
    """SHA-256 of what the judge was shown (`shown_digest`); of the principle alone when the judge abstained."""
    logit: float | None = None
    """Log-odds in favour of the first reply (pairwise) or of the reply meeting the principle (pointwise)."""
    coverage: float | None = None
    failure: Failure | None = None
    """Why there is no verdict."""
    raw: str = ""
    abstained: bool = False
    """The judge had nothing to say about the principle, whatever the reply."""


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
        """As the recorded judge did; what there is no answer to is a failure that a person should see."""
        said = self._recorded.get(principle_hash(principle))
        return not principle.text or (said is not None and said.abstained)

    def key(self, principle: Principle, prompt: Prompt, first: Completion, second: Completion | None, /) -> str:
        """SHA-256 of the recording and of what is shown."""
        return digest({"judge": self.fingerprint, "shown": shown_digest(principle, prompt, first, second)})

    async def answer(self, question: Question) -> Verdict:
        """Look the answer up."""
        shown = shown_digest(question.principle, question.prompt, question.first, question.second)
        found = self._recorded.get(shown)
        if found is None:
            return question.failed(self.fingerprint, Failure.TRANSPORT_ERROR, _not_recorded(question))
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


def record_sheet(
    sheet: Questionnaire,
    prompts: Mapping[str, Prompt],
    principles: Mapping[str, Principle],
    verdicts: Mapping[str, Verdict],
) -> list[RecordedVerdict]:
    """Make a recording of all that some pairs rest on, as far as there are verdicts; prompts and principles by id.

    A judge that does not look at the prompt answers two questions with one verdict; here they are two.
    """
    found: dict[str, RecordedVerdict] = {}
    for (a, b), keys in zip(sheet.pairs, sheet.keys, strict=True):
        for name, both in keys.items():
            for key, first, second in ((both.a, a, b), (both.b, b, a)):
                verdict = verdicts.get(key)
                if verdict is not None:
                    shown_second = None if verdict.protocol == "pointwise" else second
                    question = Question(key, principles[name], prompts[a.prompt_id], first, shown_second)
                    for each in record_verdicts({key: question}, [verdict]):
                        found[each.shown] = each
    return list(found.values())


def record_abstentions(principles: Iterable[Principle]) -> list[RecordedVerdict]:
    """Record that a judge had nothing to say about some principles."""
    return [RecordedVerdict(shown=principle_hash(principle), abstained=True) for principle in principles]


def write_recording(path: Path, recorded: Iterable[RecordedVerdict]) -> None:
    """Write a recording as JSON lines, whole or not at all."""
    write_records(path, recorded)


def read_recording(path: Path) -> list[RecordedVerdict]:
    """Read back what `write_recording` wrote.

    Raises:
        InputError: it cannot be read, or a line is no recorded verdict; with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recording {path} cannot be read: {error}; make one with `ratify judge record`") from None
    return [_recorded(path, number, line) for number, line in enumerate(lines, start=1)]


def _recorded(path: Path, number: int, line: str) -> RecordedVerdict:
    try:
        return RecordedVerdict.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "line"
        raise InputError.at(path, number, f"not a recorded verdict ({where}: {fault['msg']})") from None


def _not_recorded(question: Question) -> str:
    shown = question.first.id if question.second is None else f"{question.first.id} before {question.second.id}"
    return (
        f"{NOT_RECORDED}: principle {question.principle.id} on {shown}; a recording answers only for the very texts "
        "that its judge was shown, so record this one with its judge"
    )


def _by_shown(recorded: Iterable[RecordedVerdict]) -> dict[str, RecordedVerdict]:
    found: dict[str, RecordedVerdict] = {}
    for each in recorded:
        if found.setdefault(each.shown, each) != each:
            raise InputError(f"recording: question {each.shown[:12]} has two different answers; keep one of them")
    return found
