"""What one judge has said of the pairs of a round, a column per principle: from memory, from a kept file, or from the
verdict store; and the questions that it has not answered yet.

Left out: several judges together, and labels (`relabel.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from constitutions.schema import Constitution, Principle
from flows.context import RunContext
from flows.stages.judging import collect, make_judge
from judges.aggregate import Bools
from judges.assignment import cover
from judges.columns import Column, build_columns, column_identity, read_column, write_column
from judges.gold_calibration import apply_to_column, read_calibrators
from judges.questions import Pair, Question, verdict_keys, write_questions
from judges.statistics import LabellingStatistics
from ratify.types import Failure, Prompt
from ratify.verdict_store import VerdictStore

COLUMNS = "columns"
"""In the run's folder."""


class JudgeColumns:
    """One judge's columns about some pairs. Its `store` is given to it before it is used."""

    store: VerdictStore

    def __init__(
        self, context: RunContext, calibrator: Path, prompts: Mapping[str, Prompt], pairs: Sequence[Pair], identity: str
    ) -> None:
        """`calibrator` is a file that need not be there; `identity` is that of the pairs."""
        self.context = context
        self.judge = make_judge(context)
        self.calibrators = read_calibrators(calibrator) if calibrator.exists() else None
        """The calibrators of the run's own labels."""
        self.failures: dict[str, Failure] = {}
        self.asked = LabellingStatistics()
        """Over all questions so far."""
        self._prompts = prompts
        self._pairs = pairs
        self._identity = identity
        self._columns: dict[str, Column] = {}

    def column(self, principle: Principle) -> Column:
        """What the judge has said by a principle."""
        name = self._name(principle)
        if name not in self._columns:
            self._columns[name] = self._kept(self._file(name)) or self._built(principle)
        return self._columns[name]

    def remembers(self, principle: Principle) -> bool:
        """Is the column in memory?"""
        return self._name(principle) in self._columns

    def forget_incomplete(self) -> None:
        """Look once more, when they are needed, for verdicts that were missing."""
        self._columns = {name: column for name, column in self._columns.items() if not column.lacks.any()}

    def worth(self, principle: Principle, column: Column) -> Column:
        """A column with calibrated log-odds; what checks decided stays as it is."""
        z = apply_to_column(column.z, principle, self.calibrators)
        return column._replace(z=np.where(column.decided[:, None] == 0, z, column.z))

    def ask(self, questions: Mapping[str, Question]) -> LabellingStatistics:
        """Have questions answered and stored; the columns they belong to are read again."""
        if not questions:
            return LabellingStatistics()
        ordered = sorted(questions.values(), key=lambda question: (question.prompt.id, question.first.id))
        log = self.context.run.path / COLUMNS / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        collection = asyncio.run(collect(self.context, {each.key: each for each in ordered}, self.store, log))
        self.failures |= collection.failures
        self.asked = self.asked.plus(collection.statistics)
        for principle in {question.principle.id: question.principle for question in ordered}.values():
            self._columns.pop(self._name(principle), None)
        return collection.statistics

    def ask_again(self, questions: Mapping[str, Question], folder: Path) -> dict[str, float]:
        """Have answered questions answered once more, out of the store's sight; calibrated log-odds by key."""
        store = VerdictStore.in_folder(folder)
        try:
            collection = asyncio.run(collect(self.context, questions, store, folder / "server.log"))
        finally:
            store.close()
        about = {question.principle.id: question.principle for question in questions.values()}
        answered = {key: each for key, each in collection.verdicts.items() if each.logit is not None}
        return {key: self._calibrated(about[each.principle], each.logit or 0.0) for key, each in answered.items()}

    def _calibrated(self, principle: Principle, logit: float) -> float:
        (z,) = apply_to_column(np.array([logit]), principle, self.calibrators)
        return float(z)

    def unanswered(self, principle: Principle, rows: Bools, known: set[str]) -> dict[str, Question]:
        """The questions without a verdict about some pairs, less those of `known` keys."""
        if not rows.any():
            return {}
        column = self.column(principle)
        lost = {key.decode() for key in column.keys[rows][np.isnan(column.z[rows])]} - known
        if not lost:
            return {}
        # All pairs are shown to the writer, because a ranking judge's list is of all of a prompt's.
        sheet = write_questions(self._prompts, self._pairs, [principle], self.judge, rows[:, None])
        return {key: each for key, each in sheet.questions.items() if not lost.isdisjoint(each.verdict_keys)}

    def keep_columns(self, *constitutions: Constitution) -> Iterator[Path]:
        """Write the complete columns of these constitutions as files; where they belong, those that lack some too."""
        for principle in (each for constitution in constitutions for each in constitution.active):
            path, column = self._file(self._name(principle)), self.column(principle)
            if not path.exists() and not column.lacks.any():
                write_column(path, column)
            yield path

    def _name(self, principle: Principle) -> str:
        return column_identity(principle, self.judge, self._identity)

    def _file(self, name: str) -> Path:
        return self.context.run.path / COLUMNS / f"{name}.npz"

    def _kept(self, path: Path) -> Column | None:
        """A kept column, unless the store has lost its verdicts."""
        column = read_column(path)
        if column is None or len(column.asked) != len(self._pairs):
            return None
        judged = column.asked & (column.decided == 0)
        keys = [key.decode() for key in column.keys[judged].ravel()[[0, -1]]] if judged.any() else []
        return column if len(self.store.get(keys)) == len(set(keys)) else None

    def _built(self, principle: Principle) -> Column:
        """A verdict below today's `min_coverage` is a failure, and asking again would not mend it."""
        least = self.judge.min_coverage
        coverage = cover(self._prompts, self._pairs, [principle], self.judge)
        sheet = write_questions(self._prompts, self._pairs, [principle], self.judge, coverage.open)
        stored = self.store.get(verdict_keys(sheet.questions.values(), {}))
        low = {key for key, each in stored.items() if each.coverage is not None and each.coverage < least}
        self.failures |= dict.fromkeys(low, Failure.LOW_COVERAGE)
        answered = {key: each for key, each in stored.items() if key not in low}
        (column,) = build_columns(sheet, [principle], answered, self.judge.protocol, coverage.decided)
        return column
