"""Completions of one prompt in one list, which a ranking judge is shown whole: their order, and the keys of what its
answer says about each pair.

A list is shown forwards and backwards. Of a pair, one completion stands before the other in the one and behind it in
the other, so both orders of a pair are as in pairwise judging, and what is measured there (position bias, flips) is
measured here. The order follows from the texts alone, so that nothing depends on the order of sampling. Pure functions;
left out: what is shown (`rendering.py`) and how it is read (`readouts/ranking.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from ratify.canonical import digest
from ratify.errors import InputError
from ratify.types import Completion

MOST_LISTED = 16
"""Servers list the twenty likeliest tokens, and a letter that is not among them has no probability of its own."""


def list_of(prompt_id: str, pairs: Sequence[tuple[Completion, Completion]]) -> tuple[Completion, ...]:
    """One completion for each text in a prompt's pairs, in the order of the texts' hashes; two where a pair has one
    text twice.

    Raises:
        InputError: more than `MOST_LISTED`.
    """
    once = {each.text: (each,) for pair in pairs for each in pair}
    equal = {a.text: (a, b) for a, b in pairs if a.text == b.text}
    listed = tuple(each for text in sorted(once, key=digest) for each in equal.get(text, once[text]))
    if len(listed) > MOST_LISTED:
        raise InputError(
            f"prompt {prompt_id!r} has {len(listed)} different replies to be ranked, and one list holds {MOST_LISTED}: "
            "lower sampling.completions_per_prompt or labels.pairs_per_prompt, or set judge.protocol = 'pairwise'"
        )
    return listed


def places_of(listed: Sequence[Completion], a: Completion, b: Completion) -> tuple[int, int]:
    """Where the two of a pair stand in their list."""
    texts = [each.text for each in listed]
    place = texts.index(a.text)
    return place, place + 1 if a.text == b.text else texts.index(b.text)


def places(size: int) -> Iterator[tuple[int, int]]:
    """Every pair of places in a list, the earlier one first; (0, 1) begins."""
    return combinations(range(size), 2)


def keys_of(list_key: str, size: int) -> list[str]:
    """SHA-256 keys of the verdicts on all pairs of a list, in the order of `places`."""
    return [digest({"list": list_key, "first": first, "second": second}) for first, second in places(size)]


def pair_keys(
    forwards: Sequence[str], backwards: Sequence[str], size: int, earlier: int, later: int
) -> tuple[str, str]:
    """The keys of the pair at two places of the list shown forwards: as shown there, and the other way round."""
    return forwards[_number(size, earlier, later)], backwards[_number(size, size - 1 - later, size - 1 - earlier)]


def _number(size: int, first: int, second: int) -> int:
    """Where a pair of places stands in `places`."""
    return first * (2 * size - first - 1) // 2 + second - first - 1
