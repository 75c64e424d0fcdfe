"""Write `data/demo/gold_pairs.jsonl`: pairs of the policy's own replies to held-out prompts, with the truth per
principle.

One pair per held-out prompt, taken among replies that the oracle does not call equal. Gold pairs measure a judge;
nothing is trained on them. Run it with `python -m demo.make_gold`.
"""

from __future__ import annotations

import random
from typing import Literal

from demo import grammar, models
from demo.make_prompts import prompt_rows, write_rows
from demo.measure import heldout_replies
from demo.oracle import PROPERTIES, assess, utility

SEED = 23
REPLIES = 4  # drawn per prompt to find two that differ

Winner = Literal["a", "b", "tie"]


def winner(a: float, b: float) -> Winner:
    """Which of two values is larger."""
    if a == b:
        return "tie"
    return "a" if a > b else "b"


def gold(prompt: str, a: str, b: str) -> dict[str, Winner]:
    """Which reply the truth prefers under each property, and overall by the number of properties."""
    first, second = assess(prompt, a), assess(prompt, b)
    labels = {name: winner(getattr(first, name), getattr(second, name)) for name in PROPERTIES}
    return {**labels, "overall": winner(utility(first), utility(second))}


def gold_rows(replies: dict[str, list[str]], rng: random.Random) -> list[dict[str, object]]:
    """One row per prompt that has two replies of different worth."""
    rows: list[dict[str, object]] = []
    for request, row in zip(grammar.of_split("heldout"), prompt_rows("heldout"), strict=True):
        mine = rng.sample(replies[request.prompt], len(replies[request.prompt]))
        worth = [utility(assess(request.prompt, reply)) for reply in mine]
        other = next((index for index, value in enumerate(worth) if value != worth[0]), None)
        if other is not None:
            a, b = mine[0], mine[other]
            rows.append({**row, "id": f"gold-{row['id']}", "a": a, "b": b, "gold": gold(request.prompt, a, b)})
    return rows


def make_gold(seed: int = SEED) -> None:
    """Draw the replies and write the file."""
    policy, tokenizer = models.load(models.POLICY)
    rows = gold_rows(heldout_replies(policy, tokenizer, REPLIES, seed), random.Random(seed))
    write_rows(models.FOLDER / "gold_pairs.jsonl", rows)
    print(f"gold pairs: {len(rows)} in {models.FOLDER / 'gold_pairs.jsonl'}")


if __name__ == "__main__":
    make_gold()
