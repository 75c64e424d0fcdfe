"""What a model is asked when it criticises and rewrites a reply by a principle (Bai et al. 2022, section 3.1).

A principle's own `critique_request` and `revision_request` are used where the file has them; what is missing is
composed from the principle's text. Which principle is drawn, and how a model is shown the requests, is not decided
here.
"""

from __future__ import annotations

from typing import NamedTuple

from constitutions.schema import Constitution, Principle
from ratify.types import Prompt


class Requests(NamedTuple):
    """The two requests of one principle."""

    principle: str
    """The principle's id."""
    critique: str
    revision: str
    composed: bool
    """Whether one of them was composed, because the file has none."""


def requests_of(principle: Principle) -> Requests:
    """What to ask by a principle; a missing request is composed from its text."""
    critique, revision = principle.critique_request.strip(), principle.revision_request.strip()
    return Requests(
        principle.id,
        critique or f"Point out where the reply does not keep to this rule: {principle.text}",
        revision or f"Rewrite the reply so that it keeps to this rule: {principle.text}",
        composed=not (critique and revision),
    )


def requests_for(constitution: Constitution, prompt: Prompt) -> list[Requests]:
    """The requests of every principle that can move a label and is for the prompt."""
    return [requests_of(each) for each in constitution.principles if each.decides and each.applies_to.covers(prompt)]
