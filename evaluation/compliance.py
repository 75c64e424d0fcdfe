"""How many replies really meet each property, where the truth is known: two policies and their paired difference.

The truth comes in as plain booleans by completion id, computed by whatever world the prompts belong to. A reply without
them is left out; a judge's opinion never takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evaluation.agreement import Properties
from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, difference, mean
from ratify.types import Completion

ALL = "all"
"""The name under which "every property at once" is reported."""


class Compared(NamedTuple):
    """One figure for both policies."""

    old: Estimate
    new: Estimate
    difference: Estimate
    """New minus old, prompts resampled with the replies of both."""


def compliance(
    old: Sequence[Completion], new: Sequence[Completion], properties: Properties, how: Resampling = STANDARD
) -> dict[str, Compared]:
    """Share of replies that meet each property, and all of them at once under the name `all`.

    Raises:
        EvidenceError: when either policy has no reply with known properties.
    """
    old, new = _known(old, properties), _known(new, properties)
    if not old or not new:
        raise EvidenceError("compliance: no replies with known properties for both policies")
    names = property_names([*old, *new], properties)
    return {name: _compare(name, old, new, properties, how) for name in (ALL, *names)}


def property_names(completions: Sequence[Completion], properties: Properties) -> tuple[str, ...]:
    """The properties known of these replies, in the order in which they are first named."""
    return tuple(dict.fromkeys(name for reply in completions for name in properties.get(reply.id, {})))


def meets(reply: Completion, name: str, properties: Properties) -> bool:
    """Does the reply meet the property (`all`: every one of its properties)?"""
    known = properties[reply.id]
    return all(known.values()) if name == ALL else known.get(name, False)


def _known(completions: Sequence[Completion], properties: Properties) -> list[Completion]:
    return [reply for reply in completions if properties.get(reply.id)]


def _compare(
    name: str, old: Sequence[Completion], new: Sequence[Completion], properties: Properties, how: Resampling
) -> Compared:
    before = [float(meets(reply, name, properties)) for reply in old]
    after = [float(meets(reply, name, properties)) for reply in new]
    old_prompts, new_prompts = [reply.prompt_id for reply in old], [reply.prompt_id for reply in new]
    return Compared(
        old=mean(before, old_prompts, how, share=True),
        new=mean(after, new_prompts, how, share=True),
        difference=difference(after, new_prompts, before, old_prompts, how, share=True),
    )
