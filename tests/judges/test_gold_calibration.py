"""Calibrators fitted on gold pairs make held-out gold likelier, serve the right principle, and are kept unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from constitutions.schema import Constitution
from judges.gold import Gold
from judges.gold_calibration import (
    CalibratorSet,
    apply_to_column,
    calibrated,
    fit_on_gold,
    read_calibrators,
    write_calibrators,
)
from judges.labels import compute_labels
from judges.questions import PairKeys, Questionnaire
from judges.reliability import nll
from ratify.errors import InputError
from ratify.intervals import EvidenceError
from ratify.types import Protocol, Verdict
from tests.judges.worlds import constitution, pair, prompt

TOO_SURE = 4.0
RULES = constitution("id: p", "id: q")


class World:
    """A judge of one principle, four times too sure, with gold by principle or for the whole."""

    def __init__(self, seed: int, count: int, protocol: Protocol = "pointwise", gold_of: str = "p") -> None:
        generator = np.random.default_rng(seed)
        true = generator.normal(0, 1.5, count)
        a_wins = generator.random(count) < expit(true)
        names = [f"gold/{number}" for number in range(count)]
        pairs = [pair(f"a {name}", f"b {name}", name) for name in names]
        winners = [{gold_of: "a" if won else "b"} for won in a_wins]
        self.protocol, self.true, self.a_wins = protocol, true, a_wins
        self.gold = Gold({name: prompt(name, name) for name in names}, pairs, winners, {})  # type: ignore[arg-type]
        keys = [{"p": PairKeys(f"{name}a", f"{name}b")} for name in names]
        self.sheet = Questionnaire({}, pairs, keys)
        share = 0.5 if protocol == "pointwise" else 1.0
        self.verdicts = {
            key: self.verdict(key, sign * share * TOO_SURE * lead, name)
            for lead, name, both in zip(true, names, keys, strict=True)
            for key, sign in zip(both["p"], (1, -1), strict=True)
        }

    def verdict(self, key: str, logit: float, name: str) -> Verdict:
        return Verdict(
            key=key, judge="j", principle="p", protocol=self.protocol, prompt_id=name, first_id="f", logit=logit
        )

    def fit(self, rules: Constitution = RULES, method: str = "temperature") -> CalibratorSet:
        return fit_on_gold(
            self.gold, self.sheet, self.verdicts, rules, judge="j", protocol=self.protocol, method=method,  # type: ignore[arg-type]
        )  # fmt: skip

    def nll(self, verdicts: dict[str, Verdict]) -> float:
        labels = compute_labels(self.sheet, verdicts, {}, RULES, self.protocol)
        return nll(np.array([label.probability for label in labels]), self.a_wins.astype(float))


@pytest.mark.parametrize("protocol", ["pointwise", "pairwise"])
def test_held_out_gold_is_likelier_after_a_temperature_fitted_on_other_gold(protocol: Protocol) -> None:
    fitted, held_out = World(0, 300, protocol).fit(), World(1, 1000, protocol)
    after = calibrated(held_out.verdicts, fitted, RULES)
    assert held_out.nll(after) < held_out.nll(held_out.verdicts) - 0.2
    (made,) = fitted.by_principle.values()
    assert made.calibration.temperature == pytest.approx(TOO_SURE, rel=0.3)
    assert made.after.nll < made.before.nll and made.after.ece < made.before.ece


def test_isotonic_calibration_is_fitted_on_both_orders_and_helps_held_out_gold() -> None:
    fitted, held_out = World(0, 600, "pairwise").fit(method="isotonic"), World(1, 1000, "pairwise")
    assert held_out.nll(calibrated(held_out.verdicts, fitted, RULES)) < held_out.nll(held_out.verdicts) - 0.2
    assert fitted.shared is None


def test_overall_gold_makes_one_calibrator_that_every_principle_shares() -> None:
    fitted = World(0, 100, gold_of="overall").fit()
    assert not fitted.by_principle and fitted.shared is not None
    assert all(fitted.of(principle) is fitted.shared for principle in RULES.active)


def test_gold_about_the_whole_is_gold_about_the_only_principle() -> None:
    fitted = World(0, 100, gold_of="overall").fit(constitution("id: p"))
    assert [each.principle for each in fitted.by_principle.values()] == ["p"]


def test_an_edited_principle_loses_its_calibrator() -> None:
    fitted = World(0, 100).fit()
    edited = constitution("id: p, text: Something else entirely")
    assert fitted.of(RULES.active[0]) is not None and fitted.of(edited.active[0]) is None
    z = np.array([[1.0, np.nan]])
    assert apply_to_column(z, edited.active[0], fitted) is z
    shrunk = apply_to_column(z, RULES.active[0], fitted)
    assert 0 < shrunk[0, 0] < 0.5 and np.isnan(shrunk[0, 1])


def test_too_little_gold_is_one_sentence() -> None:
    with pytest.raises(EvidenceError, match="no principle has 20 gold pairs that gold decides and the judge answered"):
        World(0, 19).fit()
    with pytest.raises(EvidenceError, match="no principle has 500 gold pairs"):
        World(0, 499, "pairwise").fit(method="isotonic")


def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    fitted, path = World(0, 100).fit(), tmp_path / "calibrator.json"
    write_calibrators(path, fitted)
    assert read_calibrators(path) == fitted
    rows = json.loads(path.read_text())
    next(iter(rows["by_principle"].values()))["calibration"]["temperature"] = 1.0
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match="changed after it was fitted"):
        read_calibrators(path)
