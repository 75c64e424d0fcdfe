"""Write `data/demo/reference_pairs.jsonl`: what stands in for pairs by people in the made-up world.

Both replies are the grammar's, none is a policy's. Chosen is right, polite and to the point, in every wording that the
grammar has for it; rejected is drawn in the quality of the supervised data and is worse by the truth. They are made
for training prompts, so they may be trained on, and gold pairs stay what nothing is trained on. Run it with
`python -m demo.make_reference`.
"""

from __future__ import annotations

import random

from demo import grammar, models
from demo.grammar import Recipe
from demo.make_prompts import prompt_rows, write_rows
from demo.oracle import assess, utility

SEED = 41
PER_PROMPT = 2
TRIES = 50
"""Draws after which a prompt has no worse reply."""
GOOD = Recipe(tone="polite", core="right", rambling=False)


def reference_rows(rng: random.Random) -> list[dict[str, object]]:
    """Up to `PER_PROMPT` pairs a training prompt, in the conversational format of TRL's trainers."""
    rows: list[dict[str, object]] = []
    for request, row in zip(grammar.of_split("train"), prompt_rows("train"), strict=True):
        for number in range(PER_PROMPT):
            chosen = grammar.compose(request, GOOD, rng)
            rejected = _worse(request, chosen, rng)
            if rejected is not None:
                rows.append(
                    {
                        "prompt_id": f"{row['id']}-{number}",
                        "prompt": row["messages"],
                        "chosen": [{"role": "assistant", "content": chosen}],
                        "rejected": [{"role": "assistant", "content": rejected}],
                    }
                )
    return rows


def _worse(request: grammar.Request, chosen: str, rng: random.Random) -> str | None:
    best = utility(assess(request.prompt, chosen))
    for _ in range(TRIES):
        drawn = grammar.compose(request, grammar.draw_recipe(request, rng), rng)
        if utility(assess(request.prompt, drawn)) < best:
            return drawn
    return None


def make_reference(seed: int = SEED) -> None:
    """Draw the pairs and write the file."""
    rows = reference_rows(random.Random(seed))
    write_rows(models.FOLDER / "reference_pairs.jsonl", rows)
    print(f"reference pairs: {len(rows)} in {models.FOLDER / 'reference_pairs.jsonl'}")


if __name__ == "__main__":
    make_reference()
