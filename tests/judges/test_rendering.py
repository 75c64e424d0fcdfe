"""What a judge is sent: the template files, the principle last, nothing in a reply expanded."""

from __future__ import annotations

from pathlib import Path

import pytest

from judges.readouts.selection import SUFFIXES
from judges.rendering import PROMPT_FOLDER, JudgePrompt, TurnPrompt
from ratify.errors import ConfigError
from ratify.types import Protocol
from tests.judges.worlds import completion, constitution, pair, prompt

PRINCIPLE = constitution("id: p, text: Be kind.").principles[0]


def test_pointwise_text_to_the_letter() -> None:
    (message,) = JudgePrompt("pointwise").messages(PRINCIPLE, prompt(), completion("Well.", "c"), None)
    assert message.content == (
        "Conversation:\nUser: How are you?\n\nReply:\nWell.\n\nPrinciple: Be kind.\n"
        "Does the reply follow the principle? Answer Yes or No."
    )


def test_pairwise_shows_the_first_as_a_and_swapping_swaps_them() -> None:
    a, b = pair("One.", "Two.")
    template = JudgePrompt("pairwise")
    (shown,), (swapped,) = template.messages(PRINCIPLE, prompt(), a, b), template.messages(PRINCIPLE, prompt(), b, a)
    assert "Reply A:\nOne.\n\nReply B:\nTwo." in shown.content and "Reply A:\nTwo." in swapped.content


def test_slots_in_a_reply_stay_as_they_are() -> None:
    (message,) = JudgePrompt("pointwise").messages(PRINCIPLE, prompt(), completion("{principle} {x}", "c"), None)
    assert "Reply:\n{principle} {x}\n" in message.content


def test_examples_follow_the_principle_s_text() -> None:
    shown = constitution("id: p, text: Be kind., examples: [{prompt: Hi, better: Hello, worse: Go, why: rude}]")
    (message,) = JudgePrompt("pointwise").messages(shown.principles[0], prompt(), completion("Well.", "c"), None)
    assert (
        "Principle: Be kind.\nExample. Asked: Hi Follows it: Hello Does not: Go Why: rude\nDoes the" in message.content
    )


def test_a_template_without_a_slot_or_with_an_unknown_one_is_refused(tmp_path: Path) -> None:
    text = (PROMPT_FOLDER / "pointwise.txt").read_text(encoding="utf-8")
    (tmp_path / "pointwise.txt").write_text(text.replace("{completion}", ""), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"has no slot \{completion\}"):
        JudgePrompt("pointwise", tmp_path)
    (tmp_path / "pointwise.txt").write_text(text + "{mood}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\{mood\}"):
        JudgePrompt("pointwise", tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        JudgePrompt("pairwise", tmp_path)


SHIPPED = [
    (protocol, suffix)
    for protocol in ("pointwise", "pairwise")
    for suffix in SUFFIXES.values()
    if (protocol, suffix) != ("pairwise", "_score")
]


@pytest.mark.parametrize(("protocol", "suffix"), SHIPPED)
def test_shipped_templates_share_everything_up_to_the_principle(protocol: Protocol, suffix: str) -> None:
    a, b = pair("One.", "Two.")
    template, second = JudgePrompt(protocol, suffix=suffix), b if protocol == "pairwise" else None
    other = constitution("id: q, text: Be brief.").principles[0]
    one, two = (template.messages(each, prompt(), a, second)[0].content for each in (PRINCIPLE, other))
    shared = one.index("Be kind.")
    assert one[:shared] == two[:shared] and one[:shared].endswith("Principle: ") and "One." in one[:shared]
    assert ("Two." in one[:shared]) == (protocol == "pairwise")


def test_principle_first_shows_the_principle_before_the_replies() -> None:
    a, b = pair("One.", "Two.")
    (message,) = JudgePrompt("pairwise", PROMPT_FOLDER / "principle_first").messages(PRINCIPLE, prompt(), a, b)
    assert message.content.index("How are you?") < message.content.index("Be kind.") < message.content.index("One.")


def test_the_marker_follows_from_all_that_is_shown() -> None:
    template, (a, b) = JudgePrompt("pairwise", suffix="_text"), pair("One.", "Two.")
    shown = template.show(PRINCIPLE, prompt(), a, b)
    assert len(shown.marker) == 6 and shown.marker.isdecimal()
    assert f"`Verdict {shown.marker}: X`" in shown.messages[0].content
    assert shown == template.show(PRINCIPLE, prompt(), a, b)
    others = [template.show(PRINCIPLE, prompt(), b, a), template.show(PRINCIPLE, prompt("p", "Why?"), a, b)]
    others.append(template.show(PRINCIPLE, prompt(), a, completion("{marker}", "c")))
    assert len({shown.marker, *(other.marker for other in others)}) == 4
    assert "{marker}" in others[2].messages[0].content


def test_a_template_without_a_marker_for_text_or_with_slots_in_a_turn_is_refused(tmp_path: Path) -> None:
    text = (PROMPT_FOLDER / "pairwise_text.txt").read_text(encoding="utf-8")
    (tmp_path / "pairwise_text.txt").write_text(text.replace("{marker}", ""), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"pairwise_text\.txt has no slot \{marker\}; a verdict could be forged"):
        JudgePrompt("pairwise", tmp_path, suffix="_text")
    (tmp_path / "pairwise_turn.txt").write_text("So {principle}?", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"pairwise_turn\.txt: template slot \{principle\}"):
        TurnPrompt("pairwise", tmp_path)
