"""Calibration: fits solve what they say, antisymmetry holds, and held-out gold becomes likelier."""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from judges.calibration import (
    MIN_ISOTONIC,
    Calibration,
    calibrate_verdicts,
    cross_fit,
    fit_calibration,
    fit_calibrator,
    read_calibrator,
    write_calibrator,
)
from judges.reliability import measure_reliability, probabilities_of
from ratify.errors import InputError
from ratify.intervals import EvidenceError, Floats
from ratify.types import Verdict


def overconfident(seed: int, n: int, factor: float = 3.0) -> tuple[Floats, Floats, list[str]]:
    """A judge whose log-odds are `factor` times what they should be; two cases per prompt."""
    generator = np.random.default_rng(seed)
    true = generator.normal(0, 1.5, n)
    gold = (generator.random(n) < expit(true)).astype(float)
    return factor * true, gold, [f"p{index // 2}" for index in range(n)]


def test_reliability_by_hand() -> None:
    """Two bins: (.2, .4 | 0, 1) and (.6, .8 | 1, 1): ECE = ½·|.3 − .5| + ½·|.7 − 1| = .25."""
    found = measure_reliability([0.6, 0.2, 0.8, 0.4], [1, 0, 1, 1], bins=2)
    assert found.ece == pytest.approx(0.25)
    assert found.brier == pytest.approx((0.16 + 0.04 + 0.04 + 0.36) / 4)
    assert found.nll == pytest.approx(-(log(0.6) + log(0.8) + log(0.8) + log(0.4)) / 4)
    assert [(each.count, each.predicted, each.observed) for each in found.bins] == [
        (2, pytest.approx(0.3), 0.5), (2, pytest.approx(0.7), 1.0),
    ]  # fmt: skip


def test_equal_probabilities_share_a_bin() -> None:
    """A judge that says .95 or .05: two bins of 60 and 40 and an ECE that no order of cases can change."""
    p = np.array([0.95, 0.05] * 40 + [0.95] * 20)
    y = np.array([1.0, 0.0] * 30 + [0.0] * 40)
    found = measure_reliability(p, y)
    assert [each.count for each in found.bins] == [40, 60]
    assert found.ece == pytest.approx(0.4 * 0.05 + 0.6 * 0.45)
    assert measure_reliability(p[::-1], y[::-1]).ece == pytest.approx(found.ece)


def test_bins_hold_equal_mass() -> None:
    found = measure_reliability(np.linspace(0.01, 0.99, 150), np.ones(150))
    assert [each.count for each in found.bins] == [10] * 15


def test_temperature_by_hand() -> None:
    """All log-odds are ±3, and 75 of 100 are right. Believed to 1 − 1/102 each, the share right is
    (75·101 + 25·1)/(100·102) = 19/25.5, so σ(3/T) is that and T = 3/ln(19/6.5)."""
    gold = np.array([1.0] * 75 + [0.0] * 25)
    fitted = fit_calibration(np.full(100, 3.0), gold)
    assert fitted.temperature == pytest.approx(3 / log(19 / 6.5), rel=1e-5)
    mirrored = fit_calibration(np.where(np.arange(100) % 2, 3.0, -3.0), np.where(np.arange(100) % 2, gold, 1 - gold))
    assert mirrored.temperature == pytest.approx(fitted.temperature, rel=1e-5)


def test_temperature_is_found_again() -> None:
    z, gold, _ = overconfident(0, 20_000)
    assert fit_calibration(z, gold).temperature == pytest.approx(3.0, rel=0.05)


def test_a_judge_that_was_always_right_is_not_certain() -> None:
    """40 of 40 right at ±2: believed to 41/42, so σ(2/T) = 41/42 and T = 2/ln 41."""
    fitted = fit_calibration([2.0, -2.0] * 20, [1, 0] * 20)
    assert fitted.temperature == pytest.approx(2 / log(41), rel=1e-5)


def test_isotonic_by_hand() -> None:
    """At ±2, 300 of 400 are right, at ±1 only 100 of 100: mirrored shares at 1 and 2 violate the order and pool to
    400/500, so both become ln(.8/.2)."""
    z = np.array([2.0] * 400 + [1.0] * 100)
    fitted = fit_calibration(z, np.array([1.0] * 300 + [0.0] * 100 + [1.0] * 100), "isotonic")
    assert fitted.knots == (-2.0, -1.0, 1.0, 2.0)
    assert fitted.values == pytest.approx((-log(4), -log(4), log(4), log(4)))
    assert float(fitted.apply(0.5)) == pytest.approx(log(4) / 2) and float(fitted.apply(9.0)) == pytest.approx(log(4))


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_swapping_the_replies_flips_the_calibrated_log_odds(method: str) -> None:
    z, gold, _ = overconfident(1, 800)
    fitted = fit_calibration(z, gold, method)  # type: ignore[arg-type]
    grid = np.linspace(-9, 9, 101)
    assert fitted.apply(-grid) == pytest.approx(-fitted.apply(grid), abs=1e-9)
    assert (np.diff(fitted.apply(grid)) >= 0).all()


@pytest.mark.parametrize(("method", "n"), [("temperature", 100), ("isotonic", MIN_ISOTONIC)])
def test_calibration_lowers_nll_on_held_out_gold_in_at_least_95_of_100_seeds(method: str, n: int) -> None:
    better = 0
    for seed in range(100):
        z, gold, _ = overconfident(seed, n + 1000)
        fitted = fit_calibration(z[:n], gold[:n], method)  # type: ignore[arg-type]
        before, after = (measure_reliability(probabilities_of(each), gold[n:]) for each in (z[n:], fitted.apply(z[n:])))
        better += after.nll < before.nll and after.ece < before.ece
    assert better >= 95


def test_a_calibrated_judge_is_left_as_it_is() -> None:
    z, gold, prompts = overconfident(4, 4000, factor=1.0)
    made = fit_calibrator(z, gold, prompts, judge="j")
    assert made.calibration.temperature == pytest.approx(1.0, abs=0.08)
    assert made.after.nll == pytest.approx(made.before.nll, abs=2e-3)


def test_a_random_judge_loses_its_confidence() -> None:
    """Gold says nothing of these log-odds: the cross-fitted NLL comes down to a coin's, ln 2."""
    generator = np.random.default_rng(0)
    z, gold = generator.normal(0, 4, 600), generator.integers(0, 2, 600).astype(float)
    made = fit_calibrator(z, gold, [f"p{index}" for index in range(600)], judge="j")
    assert made.before.nll > 1.5 and made.after.nll == pytest.approx(log(2), abs=0.01)


def test_cross_fitting_never_shows_a_prompt_to_its_own_calibrator() -> None:
    """Turning one prompt's gold round changes others' log-odds and not its own."""
    z, gold, prompts = overconfident(2, 200)
    turned = np.where(np.array(prompts) == "p7", 1 - gold, gold)
    one, other = cross_fit(z, gold, prompts), cross_fit(z, turned, prompts)
    own = np.array(prompts) == "p7"
    assert (one[own] == other[own]).all() and (one != other).sum() > 100


def test_too_little_gold_fits_nothing() -> None:
    with pytest.raises(EvidenceError, match="at least 20 gold cases; there are 19"):
        fit_calibration(np.ones(19), np.ones(19))
    with pytest.raises(EvidenceError, match="at least 500"):
        fit_calibration(np.ones(499), np.ones(499), "isotonic")


def test_the_artefact_reads_back_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    z, gold, prompts = overconfident(3, 600)
    for method in ("temperature", "isotonic"):
        made = fit_calibrator(z, gold, prompts, judge="j", principle="p", method=method)  # type: ignore[arg-type]
        write_calibrator(tmp_path / "c.json", made)
        assert read_calibrator(tmp_path / "c.json") == made
        assert made.after.nll < made.before.nll and made.gold == 600
    text = (tmp_path / "c.json").read_text()
    (tmp_path / "c.json").write_text(text.replace('"gold": 600', '"gold": 6000'))
    with pytest.raises(InputError, match="changed after it was fitted"):
        read_calibrator(tmp_path / "c.json")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(InputError, match="is no calibrator"):
        read_calibrator(tmp_path / "c.json")


def test_equal_gold_gives_an_equal_hash_and_other_gold_another() -> None:
    z, gold, prompts = overconfident(3, 100)
    one, same = (fit_calibrator(z, gold, prompts, judge="j") for _ in range(2))
    assert one.hash == same.hash != fit_calibrator(z, 1 - gold, prompts, judge="j").hash


def verdict(logit: float | None, judge: str = "j", principle: str = "p") -> Verdict:
    return Verdict(
        key="k", judge=judge, principle=principle, protocol="pointwise", prompt_id="q", first_id="c", logit=logit
    )


def test_verdicts_are_scaled_by_their_own_calibrator_only() -> None:
    z, gold, prompts = overconfident(3, 100)
    made = fit_calibrator(z, gold, prompts, judge="j", principle="p")
    made = made.model_copy(update={"calibration": Calibration(method="temperature", temperature=2.0)})
    found = calibrate_verdicts([verdict(3.0), verdict(3.0, principle="q"), verdict(None)], {"p": made})
    assert [each.logit for each in found] == [1.5, 3.0, None]
    with pytest.raises(InputError, match="fit one for this judge"):
        calibrate_verdicts([verdict(3.0, judge="other")], {"p": made})
