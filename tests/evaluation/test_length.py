"""Length statistics by hand."""

import pytest

from evaluation.length import lengths
from ratify.types import Completion


def test_words_tokens_and_truncation() -> None:
    replies = [
        Completion(
            id=f"p{at}/x/0", prompt_id=f"p{at}", text="word " * at, finish_reason="length" if at == 4 else "stop",
            prompt_tokens=1, completion_tokens=2 * at, seed=0,
        )
        for at in range(5)
    ]  # fmt: skip
    found = lengths(replies)
    assert found.words.value == pytest.approx(2.0)
    assert found.words_p95.value == 4
    assert found.tokens.value == pytest.approx(4.0)
    assert found.truncated.value == pytest.approx(0.2)
