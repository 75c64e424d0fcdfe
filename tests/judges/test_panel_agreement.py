"""Agreement of a panel's judges by principle, against the statistics of their votes by hand."""

from __future__ import annotations

import pytest

from judges.agreement_statistics import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from judges.panel import Member
from judges.panel_agreement import agreement_metrics, measure_agreement
from ratify.intervals import Resampling
from ratify.types import Failure
from tests.judges.test_panel import Named
from tests.judges.worlds import asked, constitution, many

HOW = Resampling(draws=200)
VOTES = {"x": "ababaabb", "y": "ababbabb", "z": "aab-abba"}
"""Which reply each judge prefers on eight pairs; - : a failed verdict."""


def members() -> dict[str, Member]:
    prompts, pairs = many(8)
    found = {}
    for name, said in VOTES.items():
        sheet = asked(Named(name), constitution("id: p"), prompts, pairs)
        verdicts, failures = {}, {}
        for of_pair, side in zip(sheet.keys, said, strict=True):
            for place, key in enumerate(of_pair["p"]):
                if side == "-":
                    failures[key] = Failure.REFUSED
                else:
                    logit = (1.0 if side == "a" else -1.0) * (1 if place == 0 else -1)
                    verdicts[key] = sheet.questions[key].verdict(name, logit=logit)
        found[name] = Member(name, 1.0, sheet, verdicts, failures)
    return found


def test_the_figures_are_those_of_the_votes() -> None:
    (row,) = measure_agreement(members(), ["p"], "pairwise", HOW)
    votes = [[{"a": 0, "b": 1, "-": -1}[each[place]] for each in VOTES.values()] for place in range(8)]
    prompts = [f"p{place}" for place in range(8)]
    whole = [place for place in range(8) if -1 not in votes[place]]
    assert row.views == 8 and row.complete == 7
    assert row.among["Krippendorff alpha"] == krippendorff_alpha(votes, prompts, HOW)
    assert row.among["Gwet AC1"] == gwet_ac1(votes, prompts, HOW, categories=2)
    assert row.among["Fleiss kappa"] == fleiss_kappa([votes[each] for each in whole], [prompts[e] for e in whole], HOW)
    pairs = [[each[0] for each in votes], [each[1] for each in votes]]
    assert row.kappa["x and y"] == cohen_kappa(*pairs, prompts, HOW, chance=0.5)
    assert row.kappa["x and y"].value == pytest.approx((7 / 8 - 0.5) / 0.5)


def test_metrics_bear_principle_statistic_and_interval() -> None:
    figures = agreement_metrics(measure_agreement(members(), ["p", "unseen"], "pairwise", HOW))
    assert figures["label/panel/agreement/p/views"] == 8
    assert figures["label/panel/agreement/p/cohen_kappa_x_and_y"] == pytest.approx(0.75)
    low, high = (figures[f"label/panel/agreement/p/krippendorff_alpha/{end}"] for end in ("low", "high"))
    assert low <= figures["label/panel/agreement/p/krippendorff_alpha"] <= high
    assert not any("unseen" in key for key in figures)
