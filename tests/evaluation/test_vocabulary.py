"""Interning by pieces gives what cutting every text gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import vocabulary
from evaluation.diversity import words

LETTERS = "ab Ab,.'\u2019-\t\n\u00a0\u2003\x1c\x85\u03a3\u0130\u0301_9\u00e9"
"""Blanks of several kinds, apostrophes within words and at their ends, letters whose lower case is another length."""


@given(texts=st.lists(st.text(LETTERS) | st.text(), max_size=12))
def test_numbers_and_lengths_are_those_of_the_plain_loop(texts: list[str]) -> None:
    expected: dict[str, int] = {}
    flat = [expected.setdefault(word, len(expected)) for text in texts for word in words(text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "TEXTS_AT_ONCE", 3)
        ours, lengths = vocabulary.Vocabulary(), list[int]()
        assert ours.intern(texts, lengths).tolist() == flat
        assert lengths == [len(words(text)) for text in texts]
        assert ours.numbers == expected and len(ours) == len(expected)
        assert ours.intern(reversed(texts), []).tolist() == [
            expected[word] for text in reversed(texts) for word in words(text)
        ]
    assert ours.spelled(range(len(expected))) == list(expected)
