"""Relabelling: the pairs of a run, what its judge has said of them by each principle, and what an edit still lacks.

`plan`, `apply` and `what-if` share this. Nothing here depends on the constitution that the run was started with. Left
out: what the figures look like (`relabel_report.py`, `evaluation/flip_report.py`) and the commands
(`flows/relabel_cli.py`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from constitutions.load import load_constitution, parse_constitution
from constitutions.schema import Constitution, Principle
from flows.context import CONFIG, RunContext
from flows.stages import generate
from flows.stages.canaries import CALIBRATOR
from flows.stages.judging import collect, make_judge
from judges.aggregate import Aggregated, Bools, Evidence, aggregate
from judges.assignment import assigned, cover
from judges.columns import Column, Keys, build_columns, column_identity, pairs_identity, read_column, write_column
from judges.gold_calibration import apply_to_column, read_calibrators
from judges.labels import Labelled, evidence_of
from judges.pairs import draw_pairs
from judges.questions import Question, write_questions
from judges.statistics import LabellingStatistics
from ratify.canonical import digest
from ratify.config import Config
from ratify.errors import ConfigError, ConstitutionError
from ratify.types import Failure
from ratify.verdict_store import VerdictStore

COLUMNS = "columns"
MOST_PRINCIPLES = 1000


class Held(NamedTuple):
    """A constitution file as it was when it was read, once."""

    path: Path
    text_hash: str
    constitution: Constitution

    def verify(self) -> None:
        """Raise a ConstitutionError when the file has changed since."""
        try:
            same = digest(self.path.read_text(encoding="utf-8")) == self.text_hash
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            raise ConstitutionError(
                f"{self.path} changed while it was being applied; no label was written, the verdicts are stored: run "
                "the same command again"
            )


def hold(path: Path) -> Held:
    """Read a constitution file once."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        load_constitution(path)
        raise
    constitution = parse_constitution(text, path)
    if len(constitution.active) > MOST_PRINCIPLES:
        raise ConstitutionError(
            f"{path} has {len(constitution.active):,} active principles; relabelling sets every two of them side by "
            f"side and takes at most {MOST_PRINCIPLES:,}: retire some, or split the file"
        )
    return Held(path, digest(text), constitution)


def context_of(folder: Path) -> RunContext:
    """The newest round of a finished run, from its folder alone."""
    try:
        config = Config.model_validate_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(
            f"{folder / CONFIG} is missing or of another version; run `ratify run CONFIG` once more, which "
            "writes it (what is finished is not done again)"
        ) from None
    place = config.run.model_copy(update={"dir": folder.parent, "name": folder.name})
    context = RunContext(config.model_copy(update={"run": place}))
    rounds = [number for number in context.run.rounds() if context.run.stage(generate.NAME, number).manifest()]
    return RunContext(context.config, round_number=rounds[-1] if rounds else 0)


class Bench:
    """The pairs of one round and the columns that are known about them. Use it as a context manager."""

    def __init__(self, context: RunContext, per_pair: int | None = None) -> None:
        """`per_pair` is the number of principles drawn for each pair; 0 asks all, None is what the run's stage does.

        Raises:
            ConfigError: a panel labels the run.
        """
        context.manifest(generate.NAME)
        config = context.config
        if config.panel.judges:
            raise ConfigError(
                f"{config.run_dir} is labelled by a panel, and plan, apply and what-if work with one judge; edit the "
                "constitution and run `ratify label` again, which asks every judge only what is not stored yet"
            )
        self.context = context
        self.per_pair = config.labels.principles_per_pair or 0 if per_pair is None else per_pair
        self.prompts = {prompt.id: prompt for prompt in generate.training_prompts(context)}
        self.completions = {each.id: each for each in generate.training_completions(context)}
        self.pairs = draw_pairs(self.completions.values(), config.labels.pairs_per_prompt, config.run.seed).pairs
        self.judge = make_judge(context)
        self.identity = pairs_identity(self.prompts, self.pairs)
        calibrator = context.stage("label").path / CALIBRATOR
        self.calibrators = read_calibrators(calibrator) if calibrator.exists() else None
        """The calibrators of the run's own labels."""
        self.failures: dict[str, Failure] = {}
        self._columns: dict[str, Column] = {}

    def __enter__(self) -> Self:
        self.store = self.context.verdict_store()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.store.close()

    def column(self, principle: Principle) -> Column:
        """What the judge has said by a principle: from memory, from a kept file, or from the store."""
        name = column_identity(principle, self.judge, self.identity)
        if name not in self._columns:
            self._columns[name] = self._kept(self._file(name)) or self._built(principle)
        return self._columns[name]

    def remembered(self, principle: Principle) -> Column | None:
        """The column, if it is in memory already."""
        return self._columns.get(column_identity(principle, self.judge, self.identity))

    def forget_incomplete(self) -> None:
        """Look once more, when they are needed, for verdicts that were missing."""
        self._columns = {name: column for name, column in self._columns.items() if not column.lacks.any()}

    def evidence(self, constitution: Constitution) -> Evidence:
        """Everything that is known by a constitution's active principles."""
        return self.evidence_in([self.column(principle) for principle in constitution.active], constitution)

    def evidence_in(self, columns: Sequence[Column], constitution: Constitution) -> Evidence:
        """The same, from given columns in the order of the active principles."""
        worth = [self._worth(each, column) for each, column in zip(constitution.active, columns, strict=True)]
        evidence = evidence_of(worth, constitution)
        drawn = assigned(self.pairs, constitution.active, evidence.asked, self.per_pair)
        return evidence._replace(asked=drawn)

    def _worth(self, principle: Principle, column: Column) -> Column:
        """A column with calibrated log-odds; what checks decided stays as it is."""
        z = apply_to_column(column.z, principle, self.calibrators)
        return column._replace(z=np.where(column.decided[:, None] == 0, z, column.z))

    def aggregate(self, constitution: Constitution, evidence: Evidence) -> Aggregated:
        """The labels as far as verdicts are known."""
        return aggregate(evidence, constitution, self.judge.protocol)

    def labelled(self, constitution: Constitution, evidence: Evidence, made: Aggregated) -> Labelled:
        """The labels with their verdicts' keys."""
        keys: Keys = np.stack([self.column(principle).keys for principle in constitution.active], axis=1)
        return Labelled(self.pairs, evidence, keys, made, self.failures)

    def missing(self, constitution: Constitution, rows: Bools | None = None) -> dict[str, dict[str, Question]]:
        """The questions without a verdict, by principle id and key; of some pairs only, when `rows` are given."""
        evidence = self.evidence(constitution)
        lacking = evidence.asked & np.isnan(evidence.z).any(axis=2)
        if rows is not None:
            lacking &= rows[:, None]
        known: set[str] = set(self.failures)
        found = {}
        for index, principle in enumerate(evidence.principles):
            found[principle.id] = self._unanswered(principle, lacking[:, index], known)
            known |= set(found[principle.id])
        return found

    def ask(self, questions: Mapping[str, Question]) -> LabellingStatistics:
        """Have questions answered and stored; the columns they belong to are read again."""
        if not questions:
            return LabellingStatistics()
        ordered = sorted(questions.values(), key=lambda question: (question.prompt.id, question.first.id))
        log = self.context.run.path / COLUMNS / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        collection = asyncio.run(collect(self.context, {each.key: each for each in ordered}, self.store, log))
        self.failures |= collection.failures
        for principle in {question.principle.id: question.principle for question in ordered}.values():
            self._columns.pop(column_identity(principle, self.judge, self.identity), None)
        return collection.statistics

    def ask_again(self, questions: Mapping[str, Question], folder: Path) -> dict[str, float]:
        """Have answered questions answered once more, out of the store's sight; log-odds by key."""
        store = VerdictStore.in_folder(folder)
        try:
            collection = asyncio.run(collect(self.context, questions, store, folder / "server.log"))
        finally:
            store.close()
        return {key: each.logit for key, each in collection.verdicts.items() if each.logit is not None}

    def keep_columns(self, *constitutions: Constitution) -> None:
        """Write the complete columns of these constitutions as files, and remove those of others."""
        wanted = {self._file(column_identity(each, self.judge, self.identity)): each
                  for constitution in constitutions for each in constitution.active}  # fmt: skip
        for path, principle in wanted.items():
            column = self.column(principle)
            if not path.exists() and not column.lacks.any():
                write_column(path, column)
        for path in (self.context.run.path / COLUMNS).glob("*.npz"):
            if path not in wanted:
                path.unlink()

    def _file(self, name: str) -> Path:
        return self.context.run.path / COLUMNS / f"{name}.npz"

    def _kept(self, path: Path) -> Column | None:
        """A kept column, unless the store has lost its verdicts."""
        column = read_column(path)
        if column is None or len(column.asked) != len(self.pairs):
            return None
        judged = column.asked & (column.decided == 0)
        keys = [key.decode() for key in column.keys[judged].ravel()[[0, -1]]] if judged.any() else []
        return column if len(self.store.get(keys)) == len(set(keys)) else None

    def _built(self, principle: Principle) -> Column:
        """A verdict below today's `min_coverage` is a failure, and asking again would not mend it."""
        least = self.judge.min_coverage
        coverage = cover(self.prompts, self.pairs, [principle], self.judge)
        sheet = write_questions(self.prompts, self.pairs, [principle], self.judge, coverage.open)
        stored = self.store.get(sheet.questions)
        low = {key for key, each in stored.items() if each.coverage is not None and each.coverage < least}
        self.failures |= dict.fromkeys(low, Failure.LOW_COVERAGE)
        answered = {key: each for key, each in stored.items() if key not in low}
        (column,) = build_columns(sheet, [principle], answered, self.judge.protocol, coverage.decided)
        return column

    def _unanswered(self, principle: Principle, rows: Bools, known: set[str]) -> dict[str, Question]:
        if not rows.any():
            return {}
        column = self.column(principle)
        lost = {key.decode() for key in column.keys[rows][np.isnan(column.z[rows])]} - known
        sheet = write_questions(
            self.prompts, [self.pairs[row] for row in np.flatnonzero(rows)], [principle], self.judge
        )
        return {key: question for key, question in sheet.questions.items() if key in lost}


def tags_of(bench: Bench) -> dict[str, list[int]]:
    """The pairs of each tag; a pair without tags is `untagged`."""
    rows: dict[str, list[int]] = {}
    for row, (a, _) in enumerate(bench.pairs):
        for tag in bench.prompts[a.prompt_id].tags or ("untagged",):
            rows.setdefault(tag, []).append(row)
    return rows


def strata_of(bench: Bench) -> list[str]:
    """Each pair's first tag, which samples are stratified by."""
    return [(bench.prompts[a.prompt_id].tags or ("untagged",))[0] for a, _ in bench.pairs]


def flatten(missing: Mapping[str, Mapping[str, Question]]) -> dict[str, Question]:
    """All questions by key."""
    return {key: question for of_principle in missing.values() for key, question in of_principle.items()}


def counts(missing: Mapping[str, Mapping[str, Question]]) -> Counter[str]:
    """Calls by principle, only where there are any."""
    return Counter({name: len(questions) for name, questions in missing.items() if questions})
