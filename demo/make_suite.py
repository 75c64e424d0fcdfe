"""Write `data/demo/capability.jsonl`: 100 held-out requests of the demo world with their true answers, by a fixed seed.

Half are answered in writing (sums by their number, facts by a true sentence somewhere in the reply), half by choosing
among one true and three false sentences of one wording. What a policy may lose while it learns to be polite shows here.
The oracle checks every answer. Run it with `python -m demo.make_suite`; docs/suites.md says what the fields mean.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from demo import models
from demo.families import BY_NAME
from demo.grammar import Request, of_split, sentence
from demo.make_prompts import write_rows
from demo.oracle import assess

SEED = 41
WRITTEN = (("arithmetic", ("plus", "minus"), 10), ("facts", ("capital", "colour", "legs"), 10))
CHOSEN = (("facts", ("capital", "colour"), 10), ("advice", ("howto", "travel", "recipes"), 10))
"""Tag, families, and how many requests of each."""
FALSE_CHOICES = 3


def suite_rows(seed: int = SEED) -> list[dict[str, object]]:
    """The rows of the file; no request is in it twice."""
    rng, used = random.Random(seed), set[str]()
    rows = [
        _written(tag, request)
        for tag, names, count in WRITTEN
        for name in names
        for request in draw_heldout(name, count, used, rng)
    ]
    rows += [
        _chosen(tag, request, rng)
        for tag, names, count in CHOSEN
        for name in names
        for request in draw_heldout(name, count, used, rng)
    ]
    return [{"id": f"suite-{number:03d}", **row} for number, row in enumerate(rows, 1)]


def true_sentences(request: Request) -> list[str]:
    """Every sentence that states the answer."""
    family, row = BY_NAME[request.family], request.row
    return [sentence(form, row.told, str(row.value)) for form in (*family.statements, *family.short)]


def draw_heldout(family: str, count: int, used: set[str], rng: random.Random) -> Sequence[Request]:
    """So many held-out requests of a family that are not in `used`, which gets them."""
    left = [request for request in of_split("heldout") if request.family == family and request.prompt not in used]
    drawn = sorted(rng.sample(left, count), key=left.index)
    used |= {request.prompt for request in drawn}
    return drawn


def _written(tag: str, request: Request) -> dict[str, object]:
    if tag == "arithmetic":
        answers, compare = [str(request.row.value)], "number"
    else:
        answers, compare = true_sentences(request), "contained"
    return {"prompt": request.prompt, "answers": answers, "compare": compare, "tags": [tag, "written"]}


def _chosen(tag: str, request: Request, rng: random.Random) -> dict[str, object]:
    """One wording with the true value and with three others, in an order drawn at random."""
    family, row = BY_NAME[request.family], request.row
    form = rng.choice(family.statements)
    others = rng.sample([value for value in family.values if value != row.value], FALSE_CHOICES)
    answer = sentence(form, row.told, str(row.value))
    choices = [answer, *(sentence(form, row.told, value) for value in others)]
    right = [text for text in choices if assess(request.prompt, text).helpful]
    if right != [answer]:
        raise ValueError(f"{request.prompt!r}: the oracle calls {right} right, and the answer is {answer!r}")
    rng.shuffle(choices)
    return {
        "prompt": request.prompt, "choices": choices, "answer": answer, "choose_by": "mean_logprob",
        "tags": [tag, "chosen"],
    }  # fmt: skip


def make_suite() -> None:
    """Write the file."""
    rows, path = suite_rows(), models.FOLDER / "capability.jsonl"
    write_rows(path, rows)
    print(f"capability suite: {len(rows)} items in {path}")


if __name__ == "__main__":
    make_suite()
