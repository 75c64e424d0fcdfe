"""The relabelling benchmark runs, and its calls are what the kinds of edit cost."""

import pytest

from bench import relabel


def test_only_a_new_text_costs_calls(capsys: pytest.CaptureFixture[str]) -> None:
    figures = relabel.run(40)
    calls = {row["edit"]: row["calls"] for row in figures["edits"]}
    assert calls.pop("text of one principle") == 40 * 2
    assert set(calls.values()) == {0}
    assert "peak memory" in capsys.readouterr().out
