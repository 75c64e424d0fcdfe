"""Ask each principle's `tests` of a judge, and say what came of them.

A test is a comparison whose outcome is known. A pairwise judge is shown it in both orders; when the two disagree the
test is *order-unstable*, an outcome of its own and not a failure of the principle. Answers can be recorded: a record
is found again by what the judge would see of the principle and the test, so that an edited text or test is
*unrecorded* until it is asked anew, and everything else runs without a server.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree import ElementTree

import numpy as np
from pydantic import ValidationError

from constitutions.hashes import principle_hash
from constitutions.schema import AppliesTo, Constitution, Principle, PrincipleTest
from judges.aggregate import OUTCOME_NAMES, decide, sigmoid, views
from judges.labelling import collect_verdicts
from judges.questions import Judge, PairKeys, Question, write_questions
from ratify.canonical import digest
from ratify.errors import InputError
from ratify.types import Completion, Message, Prompt, Protocol, Record
from ratify.verdict_store import VerdictStore

Outcome = Literal["passed", "failed", "order-unstable", "unanswered", "unrecorded", "abstained"]
SOUND: tuple[Outcome, ...] = ("passed", "abstained")
"""Outcomes that let a run end well; a judge of checks abstains where a principle has none."""


class Trial(NamedTuple):
    """One test of one principle."""

    principle: Principle
    number: int
    """From 1, as a person counts."""
    test: PrincipleTest

    @property
    def name(self) -> str:
        """Such as `harm.no-crime/1`."""
        return f"{self.principle.id}/{self.number}"


class TrialRecord(Record):
    """The answers to one trial, as they are recorded: one line of JSON."""

    key: str
    """SHA-256 of what a judge sees of the principle and the test, and how it was asked."""
    name: str
    judge: str
    """The judge's fingerprint, for readers."""
    protocol: Protocol
    a: float | None
    """Log-odds: pointwise about reply a; pairwise in favour of the reply shown first, a."""
    b: float | None
    """Likewise with b."""
    failure: str = ""
    """Why an answer is missing."""
    abstained: bool = False


class TrialResult(NamedTuple):
    """What came of a trial."""

    trial: Trial
    outcome: Outcome
    probability: float | None
    """P(a is better) over both orders."""
    detail: str


def trials_of(constitution: Constitution) -> list[Trial]:
    """Every test, in the order of the file; retired principles have none."""
    return [
        Trial(principle, number, test)
        for principle in constitution.principles
        if principle.status != "retired"
        for number, test in enumerate(principle.tests, start=1)
    ]


def trial_key(trial: Trial, protocol: Protocol) -> str:
    """What a record is found by; `expect` and `min_p` are not part of it."""
    test = trial.test
    seen = {"prompt": test.prompt, "a": test.a, "b": test.b, "protocol": protocol}
    return digest({"principle": principle_hash(trial.principle), **seen})


def ask_trials(trials: Sequence[Trial], judge: Judge) -> list[TrialRecord]:
    """`ask_trials_async` for a caller without an event loop."""
    return asyncio.run(ask_trials_async(trials, judge))


async def ask_trials_async(trials: Sequence[Trial], judge: Judge) -> list[TrialRecord]:
    """Ask a judge; failures are recorded, not raised.

    Raises:
        EndpointError: the fault concerns every call.
    """
    asked = [_questions(trial, judge) for trial in trials]
    questions = {key: question for each, _ in asked for key, question in each.items()}
    with tempfile.TemporaryDirectory() as folder:
        store = VerdictStore.in_folder(Path(folder))
        try:
            answers = await collect_verdicts(questions, judge, store, failure_budget=1.0)
        finally:
            store.close()
    records = []
    for trial, (_, keys) in zip(trials, asked, strict=True):
        z_a, z_b = (answers.verdicts[key].logit if key in answers.verdicts else None for key in keys or ("", ""))
        failure = next((str(answers.failures[key]) for key in keys or () if key in answers.failures), "")
        records.append(
            TrialRecord(
                key=trial_key(trial, judge.protocol), name=trial.name, judge=judge.fingerprint,
                protocol=judge.protocol, a=z_a, b=z_b, failure=failure, abstained=keys is None,
            )
        )  # fmt: skip
    return records


def _questions(trial: Trial, judge: Judge) -> tuple[dict[str, Question], PairKeys | None]:
    """A trial's questions; its scope does not matter, because its prompt was written for the principle."""
    principle = trial.principle.model_copy(update={"applies_to": AppliesTo(), "status": "active"})
    prompt = Prompt(id=trial.name, messages=(Message(role="user", content=trial.test.prompt),))
    pair = _reply(prompt, "a", trial.test.a), _reply(prompt, "b", trial.test.b)
    written = write_questions({prompt.id: prompt}, [pair], [principle], judge)
    return written.questions, written.keys[0].get(principle.id)


def _reply(prompt: Prompt, name: str, text: str) -> Completion:
    return Completion(
        id=f"{prompt.id}/{name}", prompt_id=prompt.id, text=text, finish_reason="stop",
        prompt_tokens=0, completion_tokens=0, seed=0,
    )  # fmt: skip


def judge_trials(
    trials: Sequence[Trial], records: Sequence[TrialRecord], constitution: Constitution
) -> list[TrialResult]:
    """Hold the answers against what the tests expect."""
    by_key = {record.key: record for record in records}
    results = []
    for trial in trials:
        found = [by_key.get(trial_key(trial, protocol)) for protocol in ("pairwise", "pointwise")]
        record = next((each for each in found if each is not None), None)
        results.append(_result(trial, record, constitution))
    return results


def _result(trial: Trial, record: TrialRecord | None, constitution: Constitution) -> TrialResult:
    if record is None:
        return TrialResult(trial, "unrecorded", None, "no answer is recorded for this text and this test; ask a judge")
    if record.abstained:
        return TrialResult(trial, "abstained", None, "the judge has nothing to say about this principle")
    if record.a is None or record.b is None:
        return TrialResult(trial, "unanswered", None, f"the judge gave no answer: {record.failure or 'missing'}")
    log_odds = float(views(np.array([record.a, record.b]), constitution, record.protocol))
    p = sigmoid(log_odds)
    sides = decide(np.array([log_odds, record.a, -record.b]), constitution).tolist()
    outcome, *orders = (OUTCOME_NAMES[side] for side in sides)
    if record.protocol == "pairwise" and set(orders) == {"a", "b"}:
        shown = f"P(a) is {sigmoid(record.a):.2f} with a shown first and {sigmoid(-record.b):.2f} with b shown first"
        return TrialResult(trial, "order-unstable", p, shown)
    test = trial.test
    of_expected = {"a": p, "b": 1 - p}.get(test.expect, math.inf)
    met = outcome == test.expect and of_expected >= test.min_p
    wanted = test.expect if test.expect == "tie" else f"{test.expect} with p at least {test.min_p:g}"
    return TrialResult(trial, "passed" if met else "failed", p, f"expected {wanted}, found {outcome} with P(a) {p:.2f}")


def read_records(path: Path) -> list[TrialRecord]:
    """Recorded answers.

    Raises:
        InputError: the file is missing or a line is no record; with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recorded answers {path} cannot be read ({error}); make them with --record {path}") from None
    return list(_records(path, lines))


def _records(path: Path, lines: Sequence[str]) -> Iterator[TrialRecord]:
    for number, line in enumerate(lines, start=1):
        try:
            yield TrialRecord.model_validate_json(line)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise InputError.at(path, number, f"not a recorded answer ({reason}); record again with --record") from None


def junit(results: Sequence[TrialResult], suite: str) -> str:
    """The results as JUnit XML, which CI servers show; all but a pass and an abstention count as failures there."""
    counts: Mapping[str, int] = Counter(result.outcome for result in results)
    root = ElementTree.Element(
        "testsuite", name=suite, tests=str(len(results)), skipped=str(counts.get("abstained", 0)), errors="0",
        failures=str(sum(count for outcome, count in counts.items() if outcome not in SOUND)),
    )  # fmt: skip
    for result in results:
        case = ElementTree.SubElement(root, "testcase", classname=result.trial.principle.id, name=result.trial.name)
        if result.outcome == "abstained":
            ElementTree.SubElement(case, "skipped", message=result.detail)
        elif result.outcome != "passed":
            ElementTree.SubElement(case, "failure", type=result.outcome, message=result.detail)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
