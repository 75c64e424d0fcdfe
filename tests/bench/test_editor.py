"""The benchmark of the editing page runs on few pairs, and what it times is an answer."""

from bench import editor


def test_both_answers_are_timed() -> None:
    figures = editor.run(40)
    assert figures["pairs"] == 40
    assert min(figures["what_if_s"], figures["check_s"], figures["reading_s"]) > 0
