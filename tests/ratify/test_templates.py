from pathlib import Path

import pytest

from ratify.errors import ConfigError
from ratify.templates import conversation_text, fill, load_template
from ratify.types import Message


def test_slots_are_filled_in_one_pass() -> None:
    filled = fill("{reply} / {principle}", {"reply": "{principle} {x}", "principle": "Be {kind}"})
    assert filled == "{principle} {x} / Be {kind}"


def test_braces_that_are_no_slot_stay() -> None:
    assert fill('{"json": {1}} {reply}', {"reply": "ok"}) == '{"json": {1}} ok'


def test_a_slot_without_a_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"slot \{reply\} has no value"):
        fill("{reply}", {"principle": "x"})


def test_a_conversation_reads_as_lines() -> None:
    turns = [
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Hello"),
        Message(role="user", content="Why?"),
    ]
    assert conversation_text(turns) == "User: Hi\nAssistant: Hello\nUser: Why?"


def test_the_final_newline_is_not_part_of_a_template() -> None:
    assert load_template(Path("judges/prompts/pointwise.txt")).endswith("Answer Yes or No.")
