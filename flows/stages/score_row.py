"""One completion as the scoring task reads it (`training/rows.py`), be it a reply, a choice or a line of the anchor.

Left out: which completions are scored, and what is made of their scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ratify.types import Message


def score_row(
    name: str,
    messages: Sequence[Message],
    text: str,
    finish_reason: str = "stop",
    token_ids: Sequence[int] | None = None,
) -> str:
    """A line of JSON; scores come back under `name`. Sampled `token_ids` go before the text's own."""
    row = {
        "prompt": [message.model_dump() for message in messages],
        "completion": [{"role": "assistant", "content": text}],
        "id": name,
        "finish_reason": finish_reason,
        "token_ids": token_ids,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"
