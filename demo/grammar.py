"""The grammar of the demo world: which requests exist, which are held out, and how replies of every quality are made.

A reply is a tone (polite, neutral, rude) around a core (right, evasive, wrong or harmful), with or without rambling.
`compose` draws one; the oracle in `oracle.py` reads it back without knowing how it was drawn. Held-out prompts are
unseen combinations of subject and wording; every subject also occurs among the training prompts.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Literal, NamedTuple

from demo import sentences
from demo.families import BY_NAME, FAMILIES, PRIVATE_VALUES, Family, Row

Split = Literal["train", "heldout"]
Tone = Literal["polite", "neutral", "rude"]
Core = Literal["right", "evasive", "wrong", "harmful", "elsewhere"]

SPLIT_SEED = 7
HELDOUT_SHARE = 0.25


class Request(NamedTuple):
    """One prompt of the world together with what it is about."""

    prompt: str
    family: str
    row: Row
    split: Split


class Recipe(NamedTuple):
    """The quality of a reply: what `compose` is asked for."""

    tone: Tone
    core: Core
    rambling: bool


def sentence(template: str, subject: str, value: str) -> str:
    """Fill a statement and give it the capital letter that its place at the start of a sentence asks for."""
    text = template.replace("{s}", subject).replace("{v}", value)
    return text[0].upper() + text[1:]


@cache
def requests() -> tuple[Request, ...]:
    """Every request of the world, in a fixed order, each in the training or the held-out split."""
    rng = random.Random(SPLIT_SEED)
    found: list[Request] = []
    for family in FAMILIES:
        pairs = [(question, row) for row in family.rows for question in family.questions]
        if family.keep is not None:
            pairs = sorted(rng.sample(pairs, family.keep), key=pairs.index)
        found.extend(_split(family, pairs, rng))
    return tuple(found)


def _split(family: Family, pairs: list[tuple[str, Row]], rng: random.Random) -> list[Request]:
    """Hold out a share of the pairs, never the last training prompt with the same reply subject."""
    left = {row.told: sum(row.told == other.told for _, other in pairs) for _, row in pairs}
    heldout: set[int] = set()
    for index in rng.sample(range(len(pairs)), len(pairs)):
        told = pairs[index][1].told
        if len(heldout) < HELDOUT_SHARE * len(pairs) and (left[told] > 2 or family.name == "notes"):
            heldout.add(index)
            left[told] -= 1
    return [
        Request(question.replace("{s}", row.asked), family.name, row, "heldout" if index in heldout else "train")
        for index, (question, row) in enumerate(pairs)
    ]


@cache
def by_prompt() -> dict[str, Request]:
    """Look a request up by its text. Two families never share a prompt."""
    return {request.prompt: request for request in requests()}


def of_split(split: Split) -> tuple[Request, ...]:
    """The requests of one split."""
    return tuple(request for request in requests() if request.split == split)


def draw_recipe(request: Request, rng: random.Random) -> Recipe:
    """A quality as the supervised training data has it: about one reply in eight is right in every respect."""
    tone: Tone = rng.choices(("polite", "neutral", "rude"), (0.40, 0.30, 0.30))[0]
    wrong: Core = "harmful" if request.family == "unsafe" else "wrong"
    weights = (0.56, 0.16, 0.24, 0.04)
    core: Core = rng.choices(("right", "evasive", wrong, "elsewhere"), weights)[0]
    return Recipe(tone, core, rng.random() < 0.40)


def compose(request: Request, recipe: Recipe, rng: random.Random) -> str:
    """Write one reply to the request with the given quality."""
    parts = [_core(request, recipe.core, rng)]
    if recipe.rambling:
        for filler in rng.sample(sentences.RAMBLING, rng.choice((1, 2, 2))):
            parts.insert(rng.randint(0, len(parts)), filler)
    openers, closers = _tone_lists(recipe.tone)
    where = rng.choice(("open", "open", "close", "both")) if openers else "none"
    if where in ("open", "both"):
        parts.insert(0, rng.choice(openers))
    if where in ("close", "both"):
        parts.append(rng.choice(closers))
    return " ".join(parts)


def _tone_lists(tone: Tone) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if tone == "polite":
        return sentences.POLITE_OPENERS, sentences.POLITE_CLOSERS
    if tone == "rude":
        return sentences.RUDE_OPENERS, sentences.RUDE_CLOSERS
    return (), ()


def _core(request: Request, core: Core, rng: random.Random) -> str:
    family, row = BY_NAME[request.family], request.row
    if core == "evasive":
        others: list[tuple[str, ...]] = [sentences.EVASIONS]
        others += [sentences.REFUSALS] if request.family != "unsafe" else []
        others += [sentences.NOT_KNOWING] if request.family != "private" else []
        return rng.choice(rng.choices(others, (6, 1, 1)[: len(others)])[0])
    if core == "right" and request.family == "unsafe":
        return rng.choice(sentences.REFUSALS)
    if core == "right" and row.value is None:
        return rng.choice(sentences.NOT_KNOWING)
    if core in ("right", "harmful") and row.value is not None:
        return _state(family, row, row.value, rng)
    return _about_another(family, row, rng) if core == "elsewhere" else _wrong(family, row, rng)


def _state(family: Family, row: Row, value: str, rng: random.Random) -> str:
    template = rng.choice(family.statements + family.short)
    return sentence(template, row.told, value)


def _wrong(family: Family, row: Row, rng: random.Random) -> str:
    if family.name == "private":
        return _state(family, row, rng.choice(PRIVATE_VALUES[row.told]), rng)
    if family.name == "feelings" and rng.random() < 0.6:
        return rng.choice(sentences.PROMISES)
    return _state(family, row, rng.choice([value for value in family.values if value != row.value]), rng)


def _about_another(family: Family, row: Row, rng: random.Random) -> str:
    """A full statement about another subject: true for most families, invented for private ones."""
    family = BY_NAME["howto"] if family.name == "unsafe" else family  # any other break-in would be harmful again
    other = rng.choice([other for other in family.rows if other.told != row.told])
    value = other.value if other.value is not None else rng.choice(PRIVATE_VALUES[other.told])
    return sentence(rng.choice(family.statements), other.told, value)
