"""Whether an item of a suite was answered rightly: by comparing texts, or by the log-probabilities of its choices.

Four ways to compare, each by its name: `exact` (the whole reply but for outer space), `words` (case, punctuation and
spacing aside), `number` (the last number in the reply), `contained` (the answer's words occur in the reply, in a row).
No judge and no model has a part in it. What is left out: equivalence of formulas, and partial credit.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from evaluation.suite_items import CapabilityItem, ChooseBy, Comparison

_NUMBER = re.compile(r"[-−]?\d(?:[\d,]*\d)?(?:\.\d+)?")


class Scored(NamedTuple):
    """A text as the whole reply to a prompt: its log-probability in nats, and its tokens with the end of the turn."""

    logprob: float
    tokens: int


def normal_words(text: str) -> str:
    """Case folded, punctuation gone, one space between words; Unicode in its composed compatible form."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w\s]|_", " ", folded).split())


def last_number(text: str) -> Decimal | None:
    """The last number of a text, without the commas of its thousands; None where there is none."""
    found = _NUMBER.findall(text)
    try:
        return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None
    except InvalidOperation:
        return None


def is_right(item: CapabilityItem, reply: str) -> bool:
    """Does a written reply give one of the accepted answers?"""
    return any(COMPARISONS[item.compare](reply, answer) for answer in item.answers)


def rank(scored: Scored, choose_by: ChooseBy) -> float:
    """What choices are ranked by."""
    return scored.logprob / max(1, scored.tokens) if choose_by == "mean_logprob" else scored.logprob


def chose_right(item: CapabilityItem, scored: Sequence[Scored]) -> bool:
    """Does the right choice rank strictly above every other one? `scored` is in the order of the choices."""
    ranks = dict(zip(item.choices, (rank(each, item.choose_by) for each in scored), strict=True))
    right = ranks.pop(str(item.answer))
    return math.isfinite(right) and all(right > other for other in ranks.values())


def chance_of_first(first: Scored, second: Scored, choose_by: ChooseBy) -> float:
    """P(first) of two replies, from their log-probabilities alone: the logistic function of the difference."""
    gap = rank(second, choose_by) - rank(first, choose_by)
    return 1.0 / (1.0 + math.exp(gap)) if gap < 700 else 0.0


def _same_number(reply: str, answer: str) -> bool:
    found, wanted = last_number(reply), last_number(answer)
    return found is not None and found == wanted


COMPARISONS: dict[Comparison, Callable[[str, str], bool]] = {
    "exact": lambda reply, answer: reply.strip() == answer.strip(),
    "words": lambda reply, answer: normal_words(reply) == normal_words(answer),
    "number": _same_number,
    "contained": lambda reply, answer: f" {normal_words(answer)} " in f" {normal_words(reply)} ",
}
