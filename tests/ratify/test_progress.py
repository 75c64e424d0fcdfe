"""What a person sees of long work where there is no terminal."""

from __future__ import annotations

import pytest

from ratify.progress import progress, time_left


def test_a_line_says_how_far_how_long_and_how_much_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 3.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr("ratify.progress.time.monotonic", lambda: next(clock))
    with progress("judging") as shown:
        shown.update(100, 4000)
        shown.update(500, 4000, "50 calls/s")
        shown.update(1500, 4000)
        shown.update(4000, 4000)
    assert capsys.readouterr().err.splitlines() == [
        "  judging: 500/4,000, 10 s, 61 s left  50 calls/s",
        "  judging: 1,500/4,000, 20 s, 25 s left",
        "  judging: 4,000/4,000, 30 s",
    ]


def test_the_time_before_a_count_began_does_not_slow_its_estimate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 50.0, 52.0, 60.0, 71.0])
    monkeypatch.setattr("ratify.progress.time.monotonic", lambda: next(clock))
    with progress("scoring") as shown:
        shown.update(2, 300, "new")
        shown.update(20, 300, "new")
        shown.update(102, 300, "new")
        shown.update(2, 300, "reference")
    assert capsys.readouterr().err.splitlines() == [
        "  scoring: 2/300, 50 s  new",
        "  scoring: 102/300, 60 s, 20 s left  new",
        "  scoring: 2/300, 71 s  reference",
    ]


def test_time_left_is_in_the_unit_a_person_would_use() -> None:
    assert [time_left(seconds) for seconds in (5.2, 600, 7200)] == [", 5 s left", ", 10 min left", ", 2.0 h left"]


def test_a_line_that_stays_is_shown_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training") as shown:
        shown.say("about 2 minutes")
    assert capsys.readouterr().err == "  training: about 2 minutes\n"
