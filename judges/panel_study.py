"""Is a panel better than its best judge? Several judges on the same gold pairs: how far each agrees with gold, how far
they agree with each other, and what their combinations would agree with gold.

A vote is the side that a judge's label leans to; a failed label or a lean of exactly 0 is a missing vote. Intervals
resample prompts. Left out: asking the judges (`flows/stages/judge_panel.py`), and choosing the panel's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
from pydantic import Field

from constitutions.schema import Constitution
from judges.agreement_statistics import (
    MISSING,
    Votes,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    raw_agreement,
)
from judges.dawid_skene import fit_dawid_skene
from judges.gold import Gold, gold_agreement
from judges.labels import compute_labels
from judges.panel import Member, panel_labels
from judges.panel_views import Pooling
from ratify.intervals import STANDARD, Estimate, EvidenceError, Resampling
from ratify.types import Label, Protocol, Record

POOLINGS: tuple[Pooling, ...] = ("logit_mean", "vote")


class Panelist(NamedTuple):
    """One judge with a name for people."""

    name: str
    member: Member


class PanelStudy(Record):
    """What came of it; a figure that the votes do not support is absent."""

    pairs: int
    judges: dict[str, Estimate | None]
    """Each judge's agreement with gold."""
    failed: dict[str, int]
    """Pairs without a vote, by judge."""
    together: dict[str, Estimate | None]
    """The combinations' agreement with gold, by how they combine."""
    among: dict[str, Estimate] = Field(default_factory=dict)
    """Agreement of all judges with each other, by statistic."""
    kappa: dict[str, Estimate] = Field(default_factory=dict)
    """Cohen's kappa of each two judges, chance ½, as which reply is called a says nothing."""


def study_panel(
    gold: Gold,
    panelists: Sequence[Panelist],
    constitution: Constitution,
    protocol: Protocol,
    *,
    quorum: float = 1.0,
    how: Resampling = STANDARD,
) -> PanelStudy:
    """Compare judges that were asked about `gold.pairs`; their names must differ.

    Raises:
        InputError: the judges were asked about different pairs, or a weight is not positive.
    """
    labels = {
        each.name: compute_labels(each.member.sheet, each.member.verdicts, each.member.failures, constitution, protocol)
        for each in panelists
    }
    members = [each.member for each in panelists]
    pooled = {
        pooling: panel_labels(members, constitution, protocol, pooling=pooling, quorum=quorum) for pooling in POOLINGS
    }
    votes = np.stack([_votes(each) for each in labels.values()], axis=1)
    return PanelStudy(
        pairs=len(gold.pairs),
        judges={name: gold_agreement(gold, each, how=how).overall for name, each in labels.items()},
        failed={name: int((votes[:, place] == MISSING).sum()) for place, name in enumerate(labels)},
        together=_together(gold, pooled, votes, how),
        among=among_judges(votes, [a.prompt_id for a, _ in gold.pairs], how),
        kappa=judge_kappas(list(labels), votes, [a.prompt_id for a, _ in gold.pairs], how),
    )


def _votes(labels: Sequence[Label]) -> Votes:
    """0 for a, 1 for b."""
    sides = [MISSING if not label.margin else int(label.margin < 0) for label in labels]
    return np.array(sides, dtype=np.int64)


def _together(
    gold: Gold, pooled: Mapping[Pooling, Sequence[Label]], votes: Votes, how: Resampling
) -> dict[str, Estimate | None]:
    found = {str(name): gold_agreement(gold, labels, how=how).overall for name, labels in pooled.items()}
    voted = (votes != MISSING).any(axis=1)
    try:
        truth = fit_dawid_skene(votes[voted]).truth
    except EvidenceError:
        return found
    leads = np.log(np.maximum(truth[:, 0], 1e-12)) - np.log(np.maximum(truth[:, 1], 1e-12))
    kept = iter(leads.tolist())
    labels = [_lean(gold, place, next(kept)) for place in np.flatnonzero(voted)]
    return found | {"dawid_skene": gold_agreement(gold, labels, how=how).overall}


def _lean(gold: Gold, place: int, margin: float) -> Label:
    a, b = gold.pairs[place]
    return Label(
        prompt_id=a.prompt_id, a_id=a.id, b_id=b.id, outcome="a" if margin > 0 else "b",
        probability=float(1 / (1 + np.exp(-margin))), margin=margin,
    )  # fmt: skip


def among_judges(votes: Votes, prompts: Sequence[str], how: Resampling) -> dict[str, Estimate]:
    """Agreement of all judges with each other, by statistic; what is not defined is absent.

    Fleiss' kappa is over the pairs with a vote of every judge; the others bear missing votes."""
    whole = (votes != MISSING).all(axis=1)
    asked_all = [prompt for prompt, each in zip(prompts, whole, strict=True) if each]
    statistics: dict[str, Callable[[], Estimate]] = {
        "raw agreement": lambda: raw_agreement(votes, prompts, how),
        "Gwet AC1": lambda: gwet_ac1(votes, prompts, how, categories=2),
        "Krippendorff alpha": lambda: krippendorff_alpha(votes, prompts, how),
        "Fleiss kappa": lambda: fleiss_kappa(votes[whole], asked_all, how),
    }
    return _defined(statistics)


def judge_kappas(names: Sequence[str], votes: Votes, prompts: Sequence[str], how: Resampling) -> dict[str, Estimate]:
    """Cohen's kappa of each two judges, chance ½; what is not defined is absent."""
    return _defined(
        {
            f"{names[one]} and {names[other]}": partial(
                cohen_kappa, votes[:, one], votes[:, other], prompts, how, chance=0.5
            )
            for one, other in combinations(range(len(names)), 2)
        }
    )


def _defined(statistics: Mapping[str, Callable[[], Estimate]]) -> dict[str, Estimate]:
    found = {}
    for name, compute in statistics.items():
        try:
            found[name] = compute()
        except (EvidenceError, ValueError):
            continue
    return found
