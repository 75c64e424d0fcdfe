"""A list of K replies in one call: how good each is, and so by how much one of any two is better.

Two read-outs, as for a pair. `logprobs` asks for the best reply's letter: with p_i the probability of letter i, the
log-odds of i against j are ln p_i − ln p_j. By Luce's choice axiom (Plackett 1975, "The analysis of permutations", §2)
this is what the judge would say of i and j alone, and the p_i are the worths that a Plackett-Luce reward model learns;
a judge whose choice between two depends on what else is in the list breaks it. `json` asks for the whole order in one
text: neighbours in it are one vote apart, ln 3, as in `votes.py`, and others as many votes as steps.

Left out: reasoning before one letter, and drawing several texts; a judge of pairs does both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_uppercase
from typing import NamedTuple, Protocol

from judges.listing import MOST_LISTED
from judges.readouts.first_token import variants, weigh
from judges.readouts.json_answer import schema_body
from judges.readouts.logprobs import ONE_TOKEN_RAW_CHARS, likeliest
from judges.readouts.reading import RAW_CHARS, REASK_TEMPERATURE, Reading, seed_of
from judges.readouts.verdict_text import ranking_schema, read_ranking
from judges.readouts.votes import vote_log_odds
from judges.rendering import Shown
from ratify.canonical import JsonValue
from ratify.client import ChatClient
from ratify.sections import JudgeSection
from ratify.types import Failure

LETTERS = ascii_uppercase[:MOST_LISTED]
ONE_VOTE = vote_log_odds(1, 0)


class Ranking(NamedTuple):
    """What one attempt said of a list."""

    worths: tuple[float, ...]
    """Of each reply, in the shown order; differences are log-odds. Empty with a failure."""
    reading: Reading
    """Its log-odds are of the first against the second."""


class RankingReadout(Protocol):
    """One way to ask about a list."""

    @property
    def identity(self) -> dict[str, JsonValue]:
        """What of it decides the answers, as of any read-out."""

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int, size: int) -> Ranking:
        """Ask about `size` replies and read; otherwise as `Readout.read`."""


class BestLetter:
    """One token: the letter of the best reply."""

    def __init__(self, section: JudgeSection) -> None:
        self._min_coverage = section.min_coverage
        self._top = section.top_logprobs

    @property
    def identity(self) -> dict[str, JsonValue]:
        """How many alternatives are asked for."""
        return {
            "readout": "best-letter/1",
            "answers": [sorted(variants(letter)) for letter in LETTERS],
            "sampling": {"max_tokens": 1, "temperature": 0, "top_logprobs": self._top},
        }

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int, size: int) -> Ranking:  # noqa: ARG002
        """One request."""
        answer = await client.chat(shown.messages, max_tokens=1, temperature=0, top_logprobs=self._top)
        if answer.finish_reason == "content_filter":
            return Ranking((), Reading(failure=Failure.REFUSED, raw=answer.text).paid(answer))
        weighed = weigh(answer.first_token, [variants(letter) for letter in LETTERS[:size]], self._min_coverage)
        if weighed.logs is None:
            return Ranking((), Reading(None, weighed.coverage, weighed.failure, likeliest(answer)).paid(answer))
        return _ranking(
            weighed.logs, Reading(None, weighed.coverage, raw=answer.text[:ONE_TOKEN_RAW_CHARS]).paid(answer)
        )


class JsonRanking:
    """One text: all letters, best first."""

    def __init__(self, section: JudgeSection) -> None:
        self._form = section.schema_form
        self._max_tokens = section.text_tokens

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The schema, and the form in which the server is told of it."""
        return {
            "readout": "json-ranking/1",
            "sampling": {"max_tokens": self._max_tokens, "temperature": 0},
            "schema": ranking_schema(LETTERS),
            "form": self._form,
        }

    async def read(self, client: ChatClient, shown: Shown, base: str, retry: int, size: int) -> Ranking:
        """One request; drawn anew after a failure."""
        letters = LETTERS[:size]
        answer = await client.chat(
            shown.messages,
            max_tokens=self._max_tokens,
            temperature=REASK_TEMPERATURE if retry else 0,
            seed=seed_of(base, retry) if retry else None,
            extra_body=schema_body(ranking_schema(letters), self._form),
        )
        order, failure = read_ranking(answer.text, letters, answer.finish_reason)
        reading = Reading(failure=failure, raw=answer.text[-RAW_CHARS:], again=order is None).paid(answer)
        return Ranking((), reading) if order is None else _ranking(worths_of(order), reading)


def worths_of(order: Sequence[int]) -> tuple[float, ...]:
    """(K,): votes of each reply, by its number in the list, from their numbers best first; mean 0."""
    middle = (len(order) - 1) / 2
    return tuple(ONE_VOTE * (middle - order.index(number)) for number in range(len(order)))


def _ranking(worths: tuple[float, ...], reading: Reading) -> Ranking:
    assert all(map(math.isfinite, worths)), worths
    return Ranking(worths, reading._replace(logit=worths[0] - worths[1]))
