"""Which pairs are compared."""

from __future__ import annotations

from judges.pairs import draw_pairs
from tests.judges.worlds import completion


def replies(prompt_id: str, *texts: str) -> list:
    return [completion(text, f"{prompt_id}/{number}", prompt_id) for number, text in enumerate(texts)]


def test_all_pairs_of_each_prompt_and_none_between_prompts() -> None:
    drawn = draw_pairs(replies("p", "a", "b", "c", "d") + replies("q", "a", "b"))
    assert len(drawn.pairs) == 6 + 1 and drawn.identical == 0
    assert all(a.prompt_id == b.prompt_id for a, b in drawn.pairs)


def test_identical_texts_are_skipped_and_counted() -> None:
    drawn = draw_pairs(replies("p", "a", "a", "b"))
    assert [(a.id, b.id) for a, b in drawn.pairs] == [("p/0", "p/2"), ("p/1", "p/2")] and drawn.identical == 1


def test_a_draw_depends_on_its_seed_and_prompt_alone() -> None:
    p, q = replies("p", *"abcdef"), replies("q", *"abcdef")
    alone, together = draw_pairs(p, 3, seed=1), draw_pairs(q + p, 3, seed=1)
    assert len(alone.pairs) == 3 and alone.pairs == together.pairs[3:]
    assert draw_pairs(p, 3, seed=2).pairs != alone.pairs
    assert len(draw_pairs(p, 99).pairs) == 15
