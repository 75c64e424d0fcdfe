"""What an edit did to the labels: which flipped, weakened or tied, and which principle did it. Pure functions.

Attribution is exact. A margin is a sum of one share per principle (`aggregate.contributions`), so the change of a
margin is the sum of the changes of the shares, whatever was edited; a pair's *mover* is the principle whose share
changed most in the direction that the margin moved. Left out: words and pictures (`evaluation/flip_report.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from constitutions.schema import Constitution
from judges.aggregate import FAILED, TIE, Aggregated, Bools, Evidence, Floats, Outcomes, contributions, without
from ratify.types import Protocol

CHANGES = ("flipped", "tied", "decided", "weakened", "strengthened", "new", "lost", "same")
FLIPPED, TIED, DECIDED, WEAKENED, STRENGTHENED, NEW, LOST, SAME = range(8)
MOVED = 0.05
"""A label of the same outcome has weakened or strengthened when its probability moved by at least this much."""
CLEAR = 0.7
"""A principle takes a side in the conflict matrix from this probability on."""
REDUNDANT = 0.9
"""Two principles whose views agree beyond chance by more than this say the same."""


def changes(before: Aggregated, after: Aggregated) -> NDArray[np.int8]:
    """(N,): what became of each label, as an index into `CHANGES`."""
    old, new = before.outcome, after.outcome
    shift = np.nan_to_num(np.abs(after.probability - 0.5) - np.abs(before.probability - 0.5))
    kind = np.where(shift <= -MOVED, WEAKENED, np.where(shift >= MOVED, STRENGTHENED, SAME))
    kind = np.where((old != TIE) & (new == TIE), TIED, kind)
    kind = np.where((old == TIE) & (new != TIE), DECIDED, kind)
    kind = np.where((old == TIE) & (new == TIE), SAME, kind)
    kind = np.where((np.abs(old) == 1) & (np.abs(new) == 1) & (old != new), FLIPPED, kind)
    kind = np.where((old == FAILED) & (new != FAILED), NEW, kind)
    kind = np.where((old != FAILED) & (new == FAILED), LOST, kind)
    return np.where((old == FAILED) & (new == FAILED), SAME, kind).astype(np.int8)


def outcome_changed(kinds: NDArray[np.int8]) -> Bools:
    """(N,): the outcome is another one; what a flip rate counts."""
    return np.isin(kinds, (FLIPPED, TIED, DECIDED, NEW, LOST))


class Attribution(NamedTuple):
    """Whose doing the changes are, over the union of old and new principles."""

    names: tuple[str, ...]
    shift: Floats
    """(N, U): change of each principle's share; a row's sum is the change of the margin."""
    mover: NDArray[np.intp]
    """(N,): the principle that moved the margin most in the direction it went."""


def attribute(
    before: tuple[Aggregated, Constitution], after: tuple[Aggregated, Constitution], came_from: Mapping[str, str]
) -> Attribution:
    """Split every change of a margin over principles; `came_from` is new id → old id."""
    (old, old_rules), (new, new_rules) = before, after
    names = [principle.id for principle in new.principles]
    lineage = [came_from.get(name, name) for name in names]
    gone = [each.id for each in old.principles if each.id not in lineage]
    column = {name: number for number, name in enumerate(lineage + gone)}
    shift = np.zeros((len(new.margin), len(column)))
    shift[:, : len(names)] = contributions(new, new_rules)
    shift[:, [column[each.id] for each in old.principles]] -= contributions(old, old_rules)
    direction = np.sign(shift.sum(axis=1, keepdims=True))
    return Attribution((*names, *gone), shift, np.argmax(shift * np.where(direction == 0, 1, direction), axis=1))


def by_group(kinds: NDArray[np.int8], members: Mapping[str, NDArray[np.intp]]) -> dict[str, dict[str, int]]:
    """Counts of changes within groups of pairs, such as all pairs with a tag."""
    counts = {name: np.bincount(kinds[rows], minlength=len(CHANGES)) for name, rows in members.items()}
    return {name: dict(zip(CHANGES, count.tolist(), strict=True)) for name, count in counts.items()}


class Relations(NamedTuple):
    """How principles stand to each other; every matrix is (P, P)."""

    both: NDArray[np.int64]
    """Pairs about which both take a clear side."""
    conflict: Floats
    """Share of those in which they take opposite sides."""
    kappa: Floats
    """Agreement beyond chance, chance being one half: 2·agreement − 1, over all pairs where both have a view."""


def relations(made: Aggregated) -> Relations:
    """Conflict and redundancy between principles."""
    threshold = float(np.log(CLEAR / (1 - CLEAR)))
    odds = np.nan_to_num(made.log_odds)
    both, opposite = _meetings(odds >= threshold, odds <= -threshold)
    either, differ = _meetings(odds > 0, odds < 0)
    share = np.divide(opposite, both, out=np.zeros(both.shape), where=both > 0)
    agree = 1 - 2 * np.divide(differ, either, out=np.full(either.shape, 0.5), where=either > 0)
    return Relations(both.astype(np.int64), share, agree)


def decisive(made: Aggregated, evidence: Evidence, rules: Constitution, protocol: Protocol) -> list[int]:
    """For each principle, the labels that would have another outcome without it."""
    return [
        int((without(made, evidence, index, rules, protocol) != made.outcome).sum())
        for index in range(len(made.principles))
    ]


class GoldAgreement(NamedTuple):
    """Old and new labels against known answers, on the pairs where both decide."""

    pairs: int
    before: float
    after: float
    gained: int
    """Wrong before, right now."""
    lost: int
    p: float
    """Exact McNemar test: probability of so uneven a split of the changed pairs by chance (McNemar 1947)."""


def gold_agreement(before: Outcomes, after: Outcomes, gold: Outcomes) -> GoldAgreement | None:
    """`gold` is 1 where a is better, −1 where b is, anything else where there is no answer; None without pairs."""
    known = (np.abs(gold) == 1) & (np.abs(before) == 1) & (np.abs(after) == 1)
    count = int(known.sum())
    if not count:
        return None
    was, now = (before == gold)[known], (after == gold)[known]
    gained, lost = int((~was & now).sum()), int((was & ~now).sum())
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return GoldAgreement(count, float(was.mean()), float(now.mean()), gained, lost, p)


def stratified_sample(strata: Sequence[str], size: int, seed: int) -> NDArray[np.intp]:
    """Row numbers drawn by seed, each stratum in proportion (largest remainders), ascending."""
    if size >= len(strata):
        return np.arange(len(strata))
    generator = np.random.default_rng(seed)
    names, member = np.unique(np.array(strata), return_inverse=True)
    counts = np.bincount(member, minlength=len(names))
    exact = counts * size / len(strata)
    take = np.floor(exact).astype(np.int64)
    take[np.argsort(-(exact - take), kind="stable")[: size - int(take.sum())]] += 1
    drawn = [
        generator.choice(np.flatnonzero(member == number), count, replace=False) for number, count in enumerate(take)
    ]
    return np.sort(np.concatenate(drawn))


def _meetings(for_a: Bools, for_b: Bools) -> tuple[Floats, Floats]:
    """Pairs in which both take a side, and in which the sides are opposite."""
    a, b = for_a.astype(np.float64), for_b.astype(np.float64)
    opposite = a.T @ b + b.T @ a
    return a.T @ a + b.T @ b + opposite, opposite
