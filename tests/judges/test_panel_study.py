"""A panel's figures by hand: who is right, who agrees with whom, and that majorities help where errors differ."""

from __future__ import annotations

import numpy as np
import pytest

from judges.gold import Gold
from judges.panel import Member
from judges.panel_study import Panelist, PanelStudy, study_panel
from judges.questions import PairKeys, Questionnaire
from ratify.intervals import Resampling
from ratify.types import Failure, Verdict
from tests.judges.worlds import constitution, pair, prompt

RULES = constitution("id: p")


def study(leads: dict[str, list[float | None]], winners: str) -> PanelStudy:
    """Judges by the leads they give each pair; None is a failed verdict."""
    names = [f"gold/{number}" for number in range(len(winners))]
    pairs = [pair(f"a{name}", f"b{name}", name) for name in names]
    sheet = Questionnaire({}, pairs, [{"p": PairKeys(f"{name}a", f"{name}b")} for name in names])
    gold = Gold({name: prompt(name) for name in names}, pairs, [{"overall": w} for w in winners], {})  # type: ignore[misc]
    panelists = [Panelist(judge, member(judge, sheet, names, given)) for judge, given in leads.items()]
    return study_panel(gold, panelists, RULES, "pointwise", how=Resampling(draws=50))


def member(judge: str, sheet: Questionnaire, names: list[str], leads: list[float | None]) -> Member:
    known = {f"{name}{side}": (lead or 0.0) / 2 * sign
             for name, lead in zip(names, leads, strict=True) if lead is not None
             for side, sign in (("a", 1), ("b", -1))}  # fmt: skip
    verdicts = {
        key: Verdict(
            key=key, judge=judge, principle="p", protocol="pointwise", prompt_id="p", first_id="f", logit=logit
        )
        for key, logit in known.items()
    }
    lost = {key: Failure.REFUSED for keys in sheet.keys for key in keys["p"] if key not in known}
    return Member(judge, 1.0, sheet, verdicts, lost)


def test_two_judges_by_hand() -> None:
    """x is right 3 of 4 times, y 2 of 3 (one refused); they say the same on 2 of their 3 common pairs: kappa 1/3."""
    found = study({"x": [2.0, 1.0, -1.0, 1.0], "y": [1.0, 1.0, 1.0, None]}, "aaba"[:3] + "b")
    assert found.judges["x"] and found.judges["x"].value == 0.75 and found.judges["x"].n == 4
    assert found.judges["y"] and found.judges["y"].value == pytest.approx(2 / 3)
    assert found.failed == {"x": 0, "y": 1}
    assert found.among["raw agreement"].value == pytest.approx(2 / 3)
    assert found.kappa["x and y"].value == pytest.approx((2 / 3 - 1 / 2) / (1 / 2))
    assert "dawid_skene" not in found.together
    pooled = found.together["logit_mean"]
    assert pooled and pooled.n == 3  # one pair lacks the quorum


def test_a_majority_of_judges_that_err_apart_beats_each_of_them() -> None:
    generator = np.random.default_rng(0)
    winners = "".join(generator.choice(["a", "b"], 300))
    truth = np.array([1.0 if winner == "a" else -1.0 for winner in winners])
    leads: dict[str, list[float | None]] = {
        name: (truth * np.where(generator.random(300) < 0.75, 1, -1)).tolist() for name in ("x", "y", "z")
    }
    found = study(leads, winners)
    alone = max(each.value for each in found.judges.values() if each)
    for name in ("logit_mean", "vote", "dawid_skene"):
        together = found.together[name]
        assert together and together.value > alone
    assert set(found.among) == {"raw agreement", "Gwet AC1", "Krippendorff alpha", "Fleiss kappa"}
    assert len(found.kappa) == 3
