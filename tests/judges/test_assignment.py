"""One principle per pair by weighted rendezvous: proportional, deaf to order, and an edit moves the fewest pairs."""

from __future__ import annotations

import numpy as np
import pytest

from constitutions.schema import Constitution
from judges.assignment import assigned
from judges.questions import Pair
from tests.judges.worlds import constitution, pair

PAIRS: list[Pair] = [pair(prompt_id=f"q{number}") for number in range(8000)]


def drawn(made: Constitution, per_pair: int = 1) -> list[set[str]]:
    chosen = assigned(PAIRS, made.active, np.ones((len(PAIRS), len(made.active)), dtype=bool), per_pair)
    return [{made.active[index].id for index in np.flatnonzero(row)} for row in chosen]


def numbered(*numbers: int) -> Constitution:
    return constitution(*(f"id: p{number}" for number in numbers))


SIXTEEN = drawn(numbered(*range(16)))


def test_adding_one_to_sixteen_moves_a_seventeenth_and_only_to_the_new_one() -> None:
    added = drawn(numbered(*range(17)))
    moved = [after for before, after in zip(SIXTEEN, added, strict=True) if before != after]
    assert len(moved) / len(PAIRS) == pytest.approx(1 / 17, abs=0.008)
    assert all(after == {"p16"} for after in moved)


def test_removing_one_moves_its_own_pairs_alone() -> None:
    left = drawn(numbered(*range(15)))
    assert all(before == {"p15"} for before, after in zip(SIXTEEN, left, strict=True) if before != after)


def test_the_order_of_principles_moves_nothing() -> None:
    assert drawn(numbered(*reversed(range(16)))) == SIXTEEN


def test_a_rename_that_names_its_old_id_moves_nothing() -> None:
    renamed = constitution(*(f"id: p{number}" for number in range(15)), "id: new, was: p15")
    assert [{"p15"} if each == {"new"} else each for each in drawn(renamed)] == SIXTEEN


def test_draws_follow_the_weights() -> None:
    """Weights 1, 2, 5 of 8."""
    found = drawn(constitution("id: p", "id: q, weight: 2", "id: r, weight: 5", "id: s, weight: 0"))
    shares = [sum(each == {name} for each in found) / len(PAIRS) for name in "pqrs"]
    assert shares == pytest.approx([1 / 8, 2 / 8, 5 / 8, 0], abs=0.02)


def test_an_ensemble_has_n_different_principles_and_holds_the_single_draw() -> None:
    ensemble = drawn(numbered(*range(16)), per_pair=4)
    assert all(len(four) == 4 and one <= four for one, four in zip(SIXTEEN, ensemble, strict=True))


def test_only_principles_that_apply_are_drawn() -> None:
    asked = np.zeros((len(PAIRS), 2), dtype=bool)
    asked[::2, 0] = True
    chosen = assigned(PAIRS, numbered(0, 1).active, asked, 1)
    assert np.array_equal(chosen, asked)
