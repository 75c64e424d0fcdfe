"""What is asked by a principle: its own requests, or ones from its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitutions.load import load_constitution, parse_constitution
from constitutions.requests import requests_for
from ratify.errors import ConstitutionError
from ratify.lineage import ROOT
from ratify.types import Message, Prompt

TEXT = """schema: constitution/v1
id: x
version: 1.0.0
principles:
  - {id: own, text: The reply is kind., critique_request: Where is it unkind?, revision_request: Make it kind.}
  - {id: half, text: The reply is true., critique_request: Where does it err?}
  - {id: none, text: The reply is short.}
  - {id: scoped, text: The reply names nobody., applies_to: {tags: [privacy]}}
  - {id: measured, severity: info, text: The reply is prose.}
  - {id: weightless, weight: 0, text: The reply rhymes.}
  - {id: later, status: draft, text: The reply is wise.}
"""


def prompt(*tags: str) -> Prompt:
    return Prompt(id="p", messages=(Message(role="user", content="hello"),), tags=tags)


def test_own_requests_are_used_and_missing_ones_composed_from_the_text() -> None:
    own, half, none = requests_for(parse_constitution(TEXT, Path("c.yaml")), prompt())
    assert own == ("own", "Where is it unkind?", "Make it kind.", False)
    assert half.critique == "Where does it err?" and half.composed
    assert half.revision == "Rewrite the reply so that it keeps to this rule: The reply is true."
    assert none.critique == "Point out where the reply does not keep to this rule: The reply is short."


def test_only_principles_that_decide_and_cover_the_prompt_ask() -> None:
    constitution = parse_constitution(TEXT, Path("c.yaml"))
    assert [each.principle for each in requests_for(constitution, prompt("privacy"))] == [
        "own",
        "half",
        "none",
        "scoped",
    ]


def test_an_example_without_its_revision_is_refused_with_its_line() -> None:
    broken = TEXT.replace("principles:", "revision:\n  examples:\n    - {prompt: a, reply: b}\nprinciples:", 1)
    with pytest.raises(ConstitutionError, match=r"c\.yaml:\d+.*critique_request"):
        parse_constitution(broken, Path("c.yaml"))


def test_the_general_constitution_asks_in_its_own_words_and_shows_two_examples() -> None:
    constitution = load_constitution(ROOT / "constitutions" / "helpful-honest-harmless.yaml")
    assert not any(each.composed for each in requests_for(constitution, prompt("privacy", "self-harm", "ambiguous")))
    assert len(constitution.revision.examples) == 2
