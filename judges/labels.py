"""Labels: what the verdicts about each pair add up to, with the keys of those verdicts and the reason where one is
missing. No call is made here.

The mathematics is `aggregate.py`; here verdicts become its arrays, and its arrays become records. Left out: files
(`label_table.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from constitutions.schema import Constitution
from judges.aggregate import FAILED, OUTCOME_NAMES, Aggregated, Bools, Evidence, Outcomes, aggregate, objectives
from judges.columns import Column, Keys, build_columns
from judges.questions import Pair, Questionnaire
from ratify.types import Failure, Label, Protocol, Verdict


class Labelled(NamedTuple):
    """Everything that a label is made of, over N pairs and P principles."""

    pairs: Sequence[Pair]
    evidence: Evidence
    keys: Keys
    """(N, P, 2), or (N, P, 2, J) for a panel of J judges: empty where nobody was asked."""
    made: Aggregated
    failures: Mapping[str, Failure]
    """Why a verdict is missing, by key."""

    @property
    def answered(self) -> Bools:
        """(N, P, 2): the verdicts that the labels rest on."""
        judged = self.evidence.asked & (self.evidence.decided == 0)
        answered: Bools = judged[..., None] & ~np.isnan(self.evidence.z)
        return answered


def label_pairs(
    questionnaire: Questionnaire,
    verdicts: Mapping[str, Verdict],
    failures: Mapping[str, Failure],
    constitution: Constitution,
    protocol: Protocol,
    *,
    decided: Outcomes | None = None,
) -> Labelled:
    """The labels of all pairs, in their order.

    Args:
        questionnaire: What was asked.
        verdicts: By key.
        failures: Why a verdict is missing, by key.
        constitution: Its active principles are the P principles.
        protocol: How it was asked.
        decided: (N, P): what checks decided, so that it was not asked; None is nothing.
    """
    columns = build_columns(questionnaire, constitution.active, verdicts, protocol, decided)
    return labelled(questionnaire.pairs, columns, constitution, protocol, failures)


def labelled(
    pairs: Sequence[Pair],
    columns: Sequence[Column],
    constitution: Constitution,
    protocol: Protocol,
    failures: Mapping[str, Failure],
) -> Labelled:
    """The labels of all pairs from one column per active principle."""
    evidence = evidence_of(columns, constitution)
    keys: Keys = np.stack([column.keys for column in columns], axis=1)
    return Labelled(pairs, evidence, keys, aggregate(evidence, constitution, protocol), failures)


def evidence_of(columns: Sequence[Column], constitution: Constitution) -> Evidence:
    """One column per active principle, side by side."""
    return Evidence(
        constitution.active,
        np.stack([column.asked for column in columns], axis=1),
        np.stack([column.z for column in columns], axis=1),
        np.stack([column.decided for column in columns], axis=1),
    )


def compute_labels(
    questionnaire: Questionnaire,
    verdicts: Mapping[str, Verdict],
    failures: Mapping[str, Failure],
    constitution: Constitution,
    protocol: Protocol,
) -> list[Label]:
    """`label_pairs` as records."""
    return labels_of(label_pairs(questionnaire, verdicts, failures, constitution, protocol))


def split_labels(
    found: Labelled, constitution: Constitution, protocol: Protocol, by: Literal["tier", "tag"]
) -> dict[str, Labelled]:
    """The labels by each objective alone: per tier, or per tag in a principle's scope."""
    split = {}
    for name, members in objectives(constitution, by).items():
        evidence = found.evidence.of(each.id in members for each in found.evidence.principles)
        split[name] = found._replace(evidence=evidence, made=aggregate(evidence, constitution, protocol))
    return split


def labels_of(found: Labelled) -> list[Label]:
    """The labels as records."""
    answered = found.answered
    return [_label(found, row, answered[row]) for row in range(len(found.pairs))]


def reasons(found: Labelled, row: int) -> list[str]:
    """Why a failed label has no number."""
    evidence, sentences = found.evidence, []
    for column, principle in enumerate(evidence.principles):
        if evidence.asked[row, column] and principle.decides:
            lost = np.flatnonzero(np.isnan(evidence.z[row, column]))
            sentences += [f"{principle.id}: {_reason(found, row, column, side)}" for side in lost]
    return sentences or ["no principle that is weighed applies"]


def _reason(found: Labelled, row: int, column: int, side: int) -> str:
    """That of the first judge whose verdict is missing."""
    keys = [key.decode() for key in np.ravel(found.keys[row, column, side])]
    return next((str(found.failures[key]) for key in keys if key in found.failures), "missing")


def _label(found: Labelled, row: int, answered: Bools) -> Label:
    made, (a, b) = found.made, found.pairs[row]
    failed = int(made.outcome[row]) == FAILED
    views = zip(made.principles, made.log_odds[row].tolist(), strict=True)
    return Label(
        prompt_id=a.prompt_id,
        a_id=a.id,
        b_id=b.id,
        outcome=OUTCOME_NAMES[int(made.outcome[row])],
        probability=None if failed else float(made.probability[row]),
        margin=None if failed else float(made.margin[row]),
        by_principle={principle.id: value for principle, value in views if not math.isnan(value)},
        verdict_keys=tuple(sorted({key.decode() for key in found.keys[row][answered].ravel() if key})),
        failures=tuple(reasons(found, row)) if failed else (),
        by_checks=tuple(made.principles[index].id for index in np.flatnonzero(found.evidence.by_checks[row])),
    )
