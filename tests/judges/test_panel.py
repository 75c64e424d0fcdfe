"""Panels: pools by hand, missing judges, lineage, and a panel of one that is that judge."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from constitutions.schema import Constitution
from judges.labels import compute_labels
from judges.panel import Member, combine_verdicts, panel_labels
from judges.panel_views import pool_votes, settled
from ratify.errors import InputError
from ratify.types import Failure, Label
from tests.judges.worlds import asked, constitution, pair, prompt

RULES = constitution("id: p")


class Named:
    """A judge that only writes questions, with keys of its own."""

    def __init__(self, name: str, silent: str = "") -> None:
        self.name, self.silent = name, silent
        self.protocol = "pairwise"

    def abstains(self, principle: object) -> bool:
        return principle.id == self.silent  # type: ignore[attr-defined]

    def key(self, principle: object, prompt: object, first: object, second: object) -> str:
        return f"{self.name}:{principle.id}:{first.id}"  # type: ignore[attr-defined]


def member(
    name: str,
    a_first: float | None,
    b_first: float | None,
    weight: float = 1.0,
    rules: Constitution = RULES,
    silent: str = "",
) -> Member:
    """A judge that says the same log-odds of every principle."""
    sheet = asked(Named(name, silent), rules, {"p": prompt()}, [pair()])
    said = {key: a_first if key.endswith("/a") else b_first for key in sheet.questions}
    verdicts = {key: sheet.questions[key].verdict(name, logit=z) for key, z in said.items() if z is not None}
    return Member(name, weight, sheet, verdicts, {key: Failure.REFUSED for key, z in said.items() if z is None})


def label(*members: Member, rules: Constitution = RULES, **how: object) -> Label:
    (made,) = panel_labels(members, rules, "pairwise", **how)  # type: ignore[arg-type]
    return made


def test_weighted_mean_by_hand() -> None:
    """l = (2 − (−1))/2 = 1.5 and (−1 − 1)/2 = −1: (3·1.5 − 1)/4 = .875."""
    made = label(member("x", 2.0, -1.0, weight=3), member("y", -1.0, 1.0))
    assert made.margin == pytest.approx(0.875) and made.outcome == "a"


def test_vote_by_hand() -> None:
    """Two of three for a, certainty does not count: z = ln(2.5/1.5) in one order, −z in the other."""
    members = [member("x", 0.1, -0.1), member("y", 0.1, -0.1), member("z", -9.0, 9.0)]
    assert label(*members, pooling="vote").margin == pytest.approx(log(2.5 / 1.5))
    assert label(*members).outcome == "b"


def test_votes_by_hand() -> None:
    leads = np.array([[2.0, -1.0, 0.0], [2.0, -1.0, np.nan]])
    assert pool_votes(leads, [1.0, 1.0, 1.0], "vote") == pytest.approx([0.0, 0.0])
    heavier = [log(2.0 / 1.0)]  # 1.5 against .5
    assert pool_votes(leads[1:], [3.0, 1.0, 9.0], "vote") == pytest.approx(heavier)
    assert pool_votes(leads[1:], [30.0, 10.0, 9.0], "vote") == pytest.approx(heavier)


def test_a_panel_of_one_is_that_judge() -> None:
    alone = member("x", 2.0, -1.0, weight=0.3)
    (own,) = compute_labels(alone.sheet, alone.verdicts, alone.failures, RULES, "pairwise")
    assert label(alone) == own


def test_every_label_traces_to_the_judges_own_verdicts() -> None:
    made = label(member("x", 2.0, -1.0), member("y", 1.0, 1.0))
    assert made.verdict_keys == ("x:p:p/a", "x:p:p/b", "y:p:p/a", "y:p:p/b")


def test_a_missing_verdict_fails_the_label_unless_the_quorum_allows_it() -> None:
    members = [member("x", 2.0, -2.0, weight=2), member("y", None, 1.0)]
    strict = label(*members)
    assert strict.outcome == "failed" and strict.failures == ("p: refused",)
    lenient = label(*members, quorum=0.6)
    assert lenient.margin == pytest.approx((2.0 - (-2 * 2 + 1) / 3) / 2)
    assert lenient.verdict_keys == ("x:p:p/a", "x:p:p/b", "y:p:p/b")


def test_nobody_s_verdict_is_a_failure_whatever_the_quorum() -> None:
    assert label(member("x", None, None), member("y", None, None), quorum=0.1).outcome == "failed"


def test_a_judge_that_abstains_on_a_principle_has_no_weight_there() -> None:
    rules = constitution("id: p", "id: q")
    members = [member("x", 2.0, -2.0, rules=rules, silent="q"), member("y", 1.0, -1.0, rules=rules)]
    assert label(*members, rules=rules).by_principle == {"p": 1.5, "q": 1.0}


def test_what_is_no_panel_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        combine_verdicts([], "pairwise")
    with pytest.raises(InputError, match="positive"):
        combine_verdicts([member("x", 1.0, 1.0, weight=0.0)], "pairwise")
    other = member("y", 1.0, 1.0)
    elsewhere = asked(Named("y"), RULES, {"q": prompt("q")}, [pair(prompt_id="q")])
    with pytest.raises(InputError, match="different pairs"):
        combine_verdicts([member("x", 1.0, 1.0), other._replace(sheet=elsewhere)], "pairwise")


def test_a_vote_is_settled_when_the_rest_cannot_turn_it() -> None:
    assert settled([1.0, 2.0], [1.0, 1.0, 1.0]) and not settled([1.0, -2.0], [1.0, 1.0, 1.0])
    assert not settled([1.0], [1.0, 1.0]) and not settled([1.0, 1.0], [1.0, 1.0, 2.0])
    assert settled([-1.0], [3.0, 1.0, 1.0])
