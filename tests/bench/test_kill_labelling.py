"""A small version of the kill benchmark."""

from __future__ import annotations

import pytest

from bench.kill_labelling import kill_often


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "processes"), [(2, 1), (2, 2)])
def test_kill_9_loses_nothing_doubles_nothing_and_pays_again_only_what_was_in_flight(
    kills: int, processes: int
) -> None:
    outcome = kill_often(kills, 60, processes, seed=5)
    assert outcome.clean and outcome.kills == kills
    assert 120 <= outcome.requests == 120 + outcome.paid_again
