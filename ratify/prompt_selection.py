"""Which prompts a round draws: around the file portion after portion, within quotas by tag. Pure functions.

Portion 0 without quotas is the draw that a single run makes, in the file's order. The portions after it take what is
left in an order of their own, and begin again with the first when the file is used up.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from ratify.errors import InputError
from ratify.types import Prompt


def draw_prompts(
    prompts: Sequence[Prompt],
    limit: int | None,
    seed: int,
    *,
    portion: int = 0,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
) -> list[Prompt]:
    """`limit` of the prompts by seed, in their own order.

    Args:
        prompts: All there are.
        limit: How many; None takes all of them.
        seed: Of the order in which they are drawn.
        portion: How many draws of this size came before.
        at_least: Tag → least share of the drawn prompts.
        at_most: Tag → largest share of the drawn prompts.

    Raises:
        InputError: the quotas cannot be met.
    """
    if limit is None or limit >= len(prompts):
        limit, order = len(prompts), list(range(len(prompts)))
    else:
        order = _order(len(prompts), limit, seed, portion)
    if not at_least and not at_most:
        return [prompts[index] for index in sorted(order[:limit])]
    return [prompts[index] for index in sorted(_within(prompts, order, limit, at_least or {}, at_most or {}))]


def _order(size: int, limit: int, seed: int, portion: int) -> list[int]:
    """All indices, beginning with those of this portion."""
    dice = random.Random(seed)
    first = dice.sample(range(size), limit)
    taken = set(first)
    rest = [index for index in range(size) if index not in taken]
    dice.shuffle(rest)
    order, start = first + rest, portion * limit % size
    return order[start:] + order[:start]


def _within(
    prompts: Sequence[Prompt], order: Sequence[int], limit: int, at_least: Mapping[str, float],
    at_most: Mapping[str, float],
) -> list[int]:  # fmt: skip
    """The first indices in order that meet the quotas: what is asked for at least goes first."""
    room = {tag: math.floor(share * limit + 1e-9) for tag, share in at_most.items()}
    chosen: dict[int, None] = {}
    had: Counter[str] = Counter()

    def take(index: int) -> None:
        tags = set(prompts[index].tags)
        if index not in chosen and all(had[tag] < room[tag] for tag in tags & room.keys()):
            chosen[index] = None
            had.update(tags)

    for tag, share in at_least.items():
        needed = math.ceil(share * limit - 1e-9)
        for index in order:
            if had[tag] >= needed or len(chosen) >= limit:
                break
            if tag in prompts[index].tags:
                take(index)
        if had[tag] < needed:
            raise InputError(
                f"selection.at_least asks for {needed} of {limit} prompts with the tag {tag!r}, and {had[tag]} can be "
                "drawn; lower it, lower prompts.train_limit, or raise selection.at_most"
            )
    for index in order:
        if len(chosen) >= limit:
            break
        take(index)
    if len(chosen) < limit:
        raise InputError(
            f"selection.at_most leaves {len(chosen)} of the {limit} prompts that prompts.train_limit asks for; raise "
            "it, or lower prompts.train_limit"
        )
    return list(chosen)
