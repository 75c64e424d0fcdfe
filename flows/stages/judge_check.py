"""Ask a run's judge about gold pairs and tampered ones, and examine what it says.

Verdicts go to the run's verdict store (or a folder's), so that a second check with the same judge costs nothing, and
the label stage finds the gold pairs that it shares with the check answered. A judge that fails at many questions is
examined, too: what is missing counts against it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from flows.context import RunContext
from flows.stages.judging import check_judge, collect, constitution_of, make_judge
from judges.aggregate import Outcomes
from judges.assignment import cover
from judges.checkup import Checkup, Examination, Subject, examine, write_examination
from judges.fitness import Limits
from judges.gold import Gold, load_gold
from judges.labelling import Collection
from judges.labels import label_pairs, labels_of
from judges.questions import Question, Questionnaire, write_questions
from judges.statistics import LabellingStatistics
from ratify.errors import ConfigError
from ratify.intervals import Resampling
from ratify.types import Label
from ratify.verdict_store import VerdictStore


class Check(NamedTuple):
    """A check that is ready to be asked."""

    context: RunContext
    examination: Examination
    sheet: Questionnaire
    decided: Outcomes
    """What checks decided, so that nobody is asked."""
    folder: Path | None
    """Where verdicts are stored; None is the run's own store."""

    def store(self) -> VerdictStore:
        """The verdict store, opened."""
        return self.context.verdict_store() if self.folder is None else VerdictStore.in_folder(self.folder)

    def missing(self) -> dict[str, Question]:
        """The questions without a stored verdict."""
        store = self.store()
        try:
            known = store.get(self.sheet.questions)
        finally:
            store.close()
        return {key: question for key, question in self.sheet.questions.items() if key not in known}


class Checked(NamedTuple):
    """An examined judge and what it took."""

    checkup: Checkup
    statistics: LabellingStatistics
    last_raw: str
    """What came back instead of the last missing verdict."""


def prepare(context: RunContext, *, pairs: int, probed: int, folder: Path | None = None) -> Check:
    """Draw the gold pairs and write the questions.

    Raises:
        ConfigError: the configuration names no gold.
    """
    examination = write_examination(gold_of(context), pairs, probed, context.config.run.seed)
    return prepare_on(context, examination, folder)


def gold_of(context: RunContext) -> Gold:
    """The gold pairs that the configuration names.

    Raises:
        ConfigError: it names none.
    """
    if context.config.gold.path is None:
        raise ConfigError("a judge is checked against gold, and the configuration names none: set gold.path to a file")
    return load_gold(context.config.gold.path)


def prepare_on(context: RunContext, examination: Examination, folder: Path | None = None) -> Check:
    """Write the questions about pairs that are chosen already."""
    principles, judge = constitution_of(context).active, make_judge(context)
    prompts, drawn = examination.gold.prompts, examination.pairs
    coverage = cover(prompts, drawn, principles, judge)
    sheet = write_questions(prompts, drawn, principles, judge, coverage.open)
    return Check(context, examination, sheet, coverage.decided, folder)


class Answered(NamedTuple):
    """What a judge has said of a check's pairs."""

    labels: list[Label]
    """In the order of the examination's pairs."""
    found: Collection


def answers(check: Check) -> Answered:
    """Have the missing questions answered, however many fail, and make labels of them."""
    context = check.context
    if check.missing():
        check_judge(context)
    judge = context.config.judge
    patient = context.config.model_copy(update={"judge": judge.model_copy(update={"failure_budget": 1.0})})
    context = RunContext(patient, context.round_number, context.show)
    found = asyncio.run(_collect(context, check))
    rules = constitution_of(context)
    labels = labels_of(
        label_pairs(check.sheet, found.verdicts, found.failures, rules, judge.verdict_protocol, decided=check.decided)
    )
    return Answered(labels, found)


def ask(check: Check) -> Checked:
    """Have the missing questions answered, and examine the judge."""
    context, (labels, found) = check.context, answers(check)
    judge = context.config.judge
    asked = make_judge(context)
    subject = Subject(asked.fingerprint, asked.protocol, judge.model if judge.kind == "model" else "")
    limits = Limits(max_same_position=judge.max_same_position, max_failures=judge.failure_budget)
    if context.config.gold.min_agreement is not None:
        limits = limits._replace(min_agreement=context.config.gold.min_agreement)
    settings = context.config.evaluation
    how = Resampling(settings.confidence, settings.bootstrap_draws, context.config.run.seed)
    ceiling = context.config.gold.human_ceiling
    checkup = examine(
        check.examination, check.sheet, labels, found.verdicts, subject, limits=limits, ceiling=ceiling, how=how
    )
    return Checked(checkup, found.statistics, _last_raw(check) if found.failures else "")


def _last_raw(check: Check) -> str:
    store = check.store()
    try:
        return next((raw for key, _, raw in reversed(store.failures()) if key in check.sheet.questions), "")
    finally:
        store.close()


async def _collect(context: RunContext, check: Check) -> Collection:
    folder = check.folder or context.run.path
    folder.mkdir(parents=True, exist_ok=True)
    store = check.store()
    try:
        return await collect(context, check.sheet.questions, store, folder / "judge-check.log")
    finally:
        store.close()
