"""Agreement beyond chance, against the worked examples of the papers and of their authors."""

from __future__ import annotations

import numpy as np
import pytest

from judges.agreement_statistics import (
    MISSING,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    raw_agreement,
    share_of_ceiling,
)
from ratify.intervals import EvidenceError, Resampling

QUICK = Resampling(draws=200)

KRIPPENDORFF_2011 = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): four observers, twelve units."""

FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
"""The worked example of Fleiss' kappa in general use: ten subjects, fourteen raters, five categories."""


def table(text: str) -> np.ndarray:
    rows = [[MISSING if cell == "." else int(cell) - 1 for cell in row.split()] for row in text.split("\n") if row]
    return np.array(rows).T


def crossed(counts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Votes of two raters from their cross table."""
    cells = [(row, column) for row, line in enumerate(counts) for column, n in enumerate(line) for _ in range(n)]
    return np.array(cells).T[0], np.array(cells).T[1]


def spread(counts: list[list[int]]) -> np.ndarray:
    """Votes from counts per item and category."""
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts])


def test_cohen_by_hand() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: P_o .7, P_e .5·.6 + .5·.4 = .5, κ = .2/.5."""
    one, other = crossed([[20, 5], [10, 15]])
    assert cohen_kappa(one, other, range(50), QUICK).value == pytest.approx(0.4)


def test_kappa_with_chance_one_half_by_hand() -> None:
    """P_o = .7: κ = (.7 − .5)/.5."""
    one, other = crossed([[30, 0], [15, 5]])
    assert cohen_kappa(one, other, range(50), QUICK, chance=0.5).value == pytest.approx(0.4)


def test_cohen_equals_scikit_learn_on_three_categories() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    one, other = np.random.default_rng(1).integers(0, 3, (2, 200))
    found = cohen_kappa(one, np.where(one == 2, one, other), range(200), QUICK).value
    assert found == pytest.approx(metrics.cohen_kappa_score(one, np.where(one == 2, one, other)), abs=1e-12)


def test_items_that_one_of_two_raters_missed_do_not_count() -> None:
    one, other = crossed([[20, 5], [10, 15]])
    more, fewer = np.append(one, [0, MISSING]), np.append(other, [MISSING, 1])
    assert cohen_kappa(more, fewer, range(52), QUICK).n == 50
    assert cohen_kappa(more, fewer, range(52), QUICK).value == pytest.approx(0.4)


def test_fleiss_worked_example() -> None:
    """P̄ = .378, P̄_e = .213, κ = .210."""
    votes = spread(FLEISS)
    assert fleiss_kappa(votes, range(10), QUICK).value == pytest.approx(0.210, abs=5e-4)
    assert raw_agreement(votes, range(10), QUICK).value == pytest.approx(0.378, abs=5e-4)


def test_fleiss_refuses_missing_votes() -> None:
    with pytest.raises(EvidenceError, match="same number"):
        fleiss_kappa([[0, 1, 1], [0, 0, MISSING]], range(2), QUICK)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_2011(level: str, alpha: float) -> None:
    found = krippendorff_alpha(table(KRIPPENDORFF_2011), range(12), QUICK, level=level)  # type: ignore[arg-type]
    assert found.value == pytest.approx(alpha, abs=5e-4)


def test_krippendorff_without_a_missing_vote_by_hand() -> None:
    """Two raters, items 00 00 11 01: n = 8, o_00 = 4, o_11 = 2, o_01 = o_10 = 1, n_0 = 5, n_1 = 3.
    α = 1 − 7·2/(2·5·3) = 16/30."""
    found = krippendorff_alpha([[0, 0], [0, 0], [1, 1], [0, 1]], range(4), QUICK)
    assert found.value == pytest.approx(16 / 30)


def test_a_lone_vote_changes_nothing() -> None:
    votes = [[0, 0], [0, 0], [1, 1], [0, 1], [1, MISSING]]
    assert krippendorff_alpha(votes, range(5), QUICK).value == pytest.approx(16 / 30)
    assert raw_agreement(votes, range(5), QUICK).value == pytest.approx(3 / 4)


def test_ac1_withstands_the_prevalence_that_breaks_kappa() -> None:
    """Gwet (2002): 118 both positive, 5 and 2 split, 0 both negative of 125: κ = −.0234 although 94.4 % agree.
    π = (123/125 + 120/125)/2 = .972, chance 2·.972·.028 = .054432, AC1 = (.944 − .054432)/(1 − .054432) = .9408."""
    one, other = crossed([[118, 5], [2, 0]])
    assert cohen_kappa(one, other, range(125), QUICK).value == pytest.approx(-0.0234, abs=5e-5)
    assert gwet_ac1(np.stack([one, other], axis=1), range(125), QUICK).value == pytest.approx(0.9408, abs=5e-5)


def test_share_of_the_human_ceiling_by_hand() -> None:
    """People agree on items 1, 2 and on a third of the pairs of item 3: ceiling (1 + 1 + 1/3)/3 = 7/9. The judge
    agrees with 1, 0 and 2/3 of them: 5/9. Items with one person or without a verdict do not count."""
    people = [[0, 0, MISSING], [1, 1, 1], [0, 0, 1], [0, MISSING, MISSING], [1, 1, 1]]
    found = share_of_ceiling([0, 0, 0, 0, MISSING], people, range(5), QUICK)
    assert found.value == pytest.approx(5 / 7) and found.n == 3


def test_pairs_of_one_prompt_widen_the_interval() -> None:
    """Each item ten times, on one prompt or on ten prompts: the same figure, a wider interval."""
    one, other = crossed([[20, 5], [10, 15]])
    one, other = np.repeat(one, 10), np.repeat(other, 10)
    apart = cohen_kappa(one, other, range(500), QUICK)
    together = cohen_kappa(one, other, np.repeat(np.arange(50), 10).tolist(), QUICK)
    assert together.value == pytest.approx(apart.value) and together.clusters == 50
    assert together.high - together.low > 2.5 * (apart.high - apart.low)  # type: ignore[operator]


def test_no_evidence_is_no_agreement() -> None:
    with pytest.raises(EvidenceError):
        raw_agreement([[0, MISSING]], ["p"], QUICK)
    with pytest.raises(EvidenceError):
        cohen_kappa([0, 0], [0, 0], range(2), QUICK)
    with pytest.raises(EvidenceError):
        krippendorff_alpha([[0, 0], [0, 0]], range(2), QUICK)
    with pytest.raises(EvidenceError):
        cohen_kappa([0, MISSING], [MISSING, 0], range(2), QUICK)
