"""How far the judges of a panel agree on the pairs that they label, by principle, with intervals that resample prompts;
no gold is needed.

A judge's vote is the side that its two verdicts lean to; a failed view, one that the judge was not asked about, or a
lean of exactly 0 is a missing vote. Where settled views are not asked further, the later judges saw the contested views
only, and agreement that involves them reads lower than it is. Left out: who is right (`panel_study.py`, on gold).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from judges.agreement_statistics import MISSING
from judges.panel import Member, member_verdicts
from judges.panel_study import among_judges, judge_kappas
from judges.panel_views import view_leads, votes_of
from ratify.intervals import Estimate, Resampling
from ratify.types import Protocol, Record


class PanelAgreement(Record):
    """The judges of a panel about one principle."""

    principle: str
    views: int
    """Pairs with at least one vote."""
    complete: int
    """Pairs with a vote of every judge."""
    among: dict[str, Estimate] = Field(default_factory=dict)
    """Of all judges with each other, by statistic; Fleiss' kappa is over the complete ones."""
    kappa: dict[str, Estimate] = Field(default_factory=dict)
    """Cohen's kappa of each two judges, chance ½."""


def measure_agreement(
    named: Mapping[str, Member], principles: Sequence[str], protocol: Protocol, how: Resampling
) -> list[PanelAgreement]:
    """One row per principle that somebody voted on; `named` are the judges by name."""
    members, found = list(named.values()), []
    prompts = np.array([a.prompt_id for a, _ in members[0].sheet.pairs])
    for principle in principles:
        votes = votes_of(view_leads(member_verdicts(members, principle), protocol))
        voted = (votes != MISSING).any(axis=1)
        if voted.any():
            kept, clusters = votes[voted], prompts[voted].tolist()
            row = PanelAgreement(
                principle=principle, views=len(kept), complete=int((kept != MISSING).all(axis=1).sum()),
                among=among_judges(kept, clusters, how), kappa=judge_kappas(list(named), kept, clusters, how),
            )  # fmt: skip
            found.append(row)
    return found


def agreement_metrics(rows: Sequence[PanelAgreement]) -> dict[str, float]:
    """The figures by metric key."""
    figures: dict[str, float] = {}
    for row in rows:
        head = f"label/panel/agreement/{row.principle}"
        figures |= {f"{head}/views": row.views, f"{head}/complete": row.complete}
        kappa = {f"Cohen kappa {name}": each for name, each in row.kappa.items()}
        for name, each in (row.among | kappa).items():
            ends = {"": each.value, "/low": each.low, "/high": each.high}
            slug = name.lower().replace(" ", "_")
            figures |= {f"{head}/{slug}{end}": value for end, value in ends.items() if value is not None}
    return figures
