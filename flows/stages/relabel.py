"""Relabelling: the pairs of a run, what its judge has said of them by each principle, and what an edit still lacks.

`plan`, `apply` and `what-if` share this. Nothing here depends on the constitution that the run was started with. Left
out: what the figures look like (`relabel_report.py`, `evaluation/flip_report.py`) and the commands
(`flows/relabel_cli.py`).
"""

from __future__ import annotations

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
from flows.stages.judge_columns import COLUMNS, JudgeColumns
from flows.stages.judging import money_spent
from flows.stages.panel_judging import FOLDER, seats_of
from judges.aggregate import Aggregated, Bools, Evidence, aggregate
from judges.assignment import assigned
from judges.columns import Column, Keys, pairs_identity
from judges.labels import Labelled, evidence_of
from judges.pairs import draw_pairs
from judges.panel_columns import pool_columns, unsettled
from judges.questions import Question
from judges.statistics import LabellingStatistics
from ratify.canonical import digest
from ratify.config import Config
from ratify.errors import ConfigError, ConstitutionError
from ratify.rounds import config_of_round
from ratify.sections import PriceSection
from ratify.types import Failure

LABEL = "label"
"""The stage whose labels are made anew."""
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
    number = rounds[-1] if rounds else 0
    return RunContext(config_of_round(context.config, number), number)


class Bench:
    """The pairs of one round and the columns that are known about them. Use it as a context manager.

    With a panel a principle's column is what its judges' columns are together, and every judge has its own verdicts,
    calibrators and files.
    """

    def __init__(self, context: RunContext, per_pair: int | None = None) -> None:
        """`per_pair` is the number of principles drawn for each pair; 0 asks all, None is what the run's stage does."""
        context.manifest(generate.NAME)
        config = context.config
        self.context = context
        self.per_pair = config.labels.principles_per_pair or 0 if per_pair is None else per_pair
        self.prompts = {prompt.id: prompt for prompt in generate.training_prompts(context)}
        self.completions = {each.id: each for each in generate.training_completions(context)}
        self.pairs = draw_pairs(self.completions.values(), config.labels.pairs_per_prompt, config.run.seed).pairs
        self.identity = pairs_identity(self.prompts, self.pairs)
        self.judges = [
            JudgeColumns(seat.context, calibrator_of(context, seat.name), self.prompts, self.pairs, self.identity)
            for seat in seats_of(context)
        ]
        self.judge = self.judges[0].judge
        """The first judge: how it is asked is how all are."""

    def __enter__(self) -> Self:
        self.store = self.context.verdict_store()
        for each in self.judges:
            each.store = self.store
        return self

    def __exit__(self, *_exception: object) -> None:
        self.store.close()

    @property
    def fingerprint(self) -> str:
        """Of the judge or the panel."""
        each = [of_judge.judge.fingerprint for of_judge in self.judges]
        return digest(["panel", *sorted(each)]) if self.context.config.panel.judges else each[0]

    @property
    def price(self) -> PriceSection | None:
        """What tokens cost, when it is the same for all judges."""
        first, *others = (each.context.config.judge.price for each in self.judges)
        return first if all(price == first for price in others) else None

    @property
    def failures(self) -> dict[str, Failure]:
        """Why a verdict is missing, by key."""
        return {key: failure for each in self.judges for key, failure in each.failures.items()}

    def column(self, principle: Principle) -> Column:
        """What the judge has said by a principle, or the panel: from memory, from a kept file, or from the store."""
        if len(self.judges) == 1:
            return self.judges[0].column(principle)
        panel = self.context.config.panel
        columns = self._spoken(principle)
        return pool_columns(columns, panel.weights, panel.combine, panel.quorum, self.judge.protocol)

    def remembered(self, principle: Principle) -> Column | None:
        """The column, if it is in memory already."""
        return self.column(principle) if all(each.remembers(principle) for each in self.judges) else None

    def forget_incomplete(self) -> None:
        """Look once more, when they are needed, for verdicts that were missing."""
        for each in self.judges:
            each.forget_incomplete()

    def evidence(self, constitution: Constitution) -> Evidence:
        """Everything that is known by a constitution's active principles."""
        return self.evidence_in([self.column(principle) for principle in constitution.active], constitution)

    def evidence_in(self, columns: Sequence[Column], constitution: Constitution) -> Evidence:
        """The same, from given columns in the order of the active principles."""
        if len(self.judges) == 1:
            worth = self.judges[0].worth
            columns = [worth(each, column) for each, column in zip(constitution.active, columns, strict=True)]
        evidence = evidence_of(columns, constitution)
        drawn = assigned(self.pairs, constitution.active, evidence.asked, self.per_pair)
        return evidence._replace(asked=drawn)

    def aggregate(self, constitution: Constitution, evidence: Evidence) -> Aggregated:
        """The labels as far as verdicts are known."""
        return aggregate(evidence, constitution, self.judge.protocol)

    def labelled(self, constitution: Constitution, evidence: Evidence, made: Aggregated) -> Labelled:
        """The labels with their verdicts' keys."""
        keys: Keys = np.stack([self.column(principle).keys for principle in constitution.active], axis=1)
        return Labelled(self.pairs, evidence, keys, made, self.failures)

    def missing(self, constitution: Constitution, rows: Bools | None = None) -> dict[str, dict[str, Question]]:
        """The questions without a verdict, by principle id and key; of some pairs only, when `rows` are given.

        Of a panel that stops at settled views these are the most there can be: what a judge says may settle a view.
        """
        found: dict[str, dict[str, Question]] = {}
        for place in range(len(self.judges)):
            for name, questions in self._missing_of(place, constitution, rows).items():
                found.setdefault(name, {}).update(questions)
        return found

    def ask_missing(self, constitution: Constitution, rows: Bools | None = None) -> LabellingStatistics:
        """Have them answered and stored, one judge after the other."""
        total = LabellingStatistics()
        for place, each in enumerate(self.judges):
            total = total.plus(each.ask(flatten(self._missing_of(place, constitution, rows))))
        return total

    def money(self) -> dict[str, float]:
        """What was asked so far cost, by metric key."""
        spent: Counter[str] = Counter()
        for each in self.judges:
            spent.update(money_spent(each.context, each.asked))
        return dict(spent)

    def _missing_of(self, place: int, constitution: Constitution, rows: Bools | None) -> dict[str, dict[str, Question]]:
        """The same of one judge."""
        drawn, judge = self.evidence(constitution).asked, self.judges[place]
        if rows is not None:
            drawn = drawn & rows[:, None]
        known, found = set(judge.failures), {}
        for index, principle in enumerate(constitution.active):
            column = self._spoken(principle)[place]
            lacking = drawn[:, index] & column.asked & np.isnan(column.z).any(axis=1)
            found[principle.id] = judge.unanswered(principle, lacking, known)
            known |= set(found[principle.id])
        return found

    def _spoken(self, principle: Principle) -> list[Column]:
        """Each judge's calibrated column, without what those before it had settled."""
        columns = [each.worth(principle, each.column(principle)) for each in self.judges]
        panel = self.context.config.panel
        return unsettled(
            columns, panel.weights, panel.combine, self.judge.protocol,
            agree_above=panel.agree_above if panel.stop_settled else None,
        )  # fmt: skip

    def keep_columns(self, *constitutions: Constitution) -> None:
        """Write the complete columns of these constitutions as files, and remove those of others."""
        wanted = {path for each in self.judges for path in each.keep_columns(*constitutions)}
        for path in (self.context.run.path / COLUMNS).glob("*.npz"):
            if path not in wanted:
                path.unlink()


def calibrator_of(context: RunContext, judge: str) -> Path:
    """Where the label stage keeps what it learnt about a judge of this run; `judge` is its name in a panel."""
    if context.config.gold.calibrator is not None:
        return context.config.gold.calibrator
    folder = context.stage(LABEL).path
    return (folder / FOLDER / judge if context.config.panel.judges else folder) / CALIBRATOR


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
