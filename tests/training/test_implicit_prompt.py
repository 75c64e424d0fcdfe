"""Rows without a prompt column: hh-rlhf transcripts, conversations and plain texts are divided where they part."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ratify.errors import InputError
from training.implicit_prompt import transcript, with_prompt
from training.rows import read_preferences

HH = Path(__file__).parents[3] / "shared/realdata/pairwise/hh_harmless_part_a.jsonl.gz"
ASKED = "\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Any tea?"


def test_transcripts_become_conversations_and_part_at_the_last_turn() -> None:
    row = with_prompt({"chosen": f"{ASKED}\n\nAssistant: Yes.", "rejected": f"{ASKED}\n\nAssistant: No."})
    assert row is not None
    assert row["prompt"] == [
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Any tea?"},
    ]
    assert row["chosen"] == [{"role": "assistant", "content": "Yes."}]
    assert row["rejected"] == [{"role": "assistant", "content": "No."}]


def test_a_blank_line_inside_a_turn_stays_in_it() -> None:
    assert transcript("\n\nHuman: one\n\ntwo") == [{"role": "user", "content": "one\n\ntwo"}]
    assert transcript("Human: one") is None


def test_conversations_part_at_the_last_turn_or_not_at_all() -> None:
    ask, yes, no = (
        {"role": role, "content": text} for role, text in (("user", "?"), *[("assistant", t) for t in "yn"])
    )
    row = with_prompt({"chosen": [ask, yes], "rejected": [ask, no]})
    assert row is not None and row["prompt"] == [ask] and row["chosen"] == [yes]
    assert with_prompt({"chosen": [ask, yes, ask, yes], "rejected": [ask, no]}) is None
    assert with_prompt({"chosen": [yes], "rejected": [no]}) is None


def test_plain_texts_part_where_they_differ_and_the_space_goes_to_the_completions() -> None:
    row = with_prompt({"chosen": "The sky is blue.", "rejected": "The sky is green."})
    assert row == {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    assert with_prompt({"chosen": "yes", "rejected": "no"}) is None


def test_a_row_with_a_prompt_stays_as_it_is() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert with_prompt(row) is row


def test_bad_rows_are_refused_with_their_line_or_left_out_by_name(tmp_path: Path) -> None:
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, {"chosen": "x", "rejected": "y"}, good)))
    with pytest.raises(InputError, match=r"pairs.jsonl:2: the row has no prompt"):
        read_preferences(path)
    refused: list[str] = []
    assert len(read_preferences(path, refused)) == 2
    assert len(refused) == 1 and "pairs.jsonl:2:" in refused[0]


@pytest.mark.realdata
@pytest.mark.skipif(not HH.is_file(), reason="the hh-rlhf pairs are not on this machine")
def test_all_usable_human_pairs_are_read() -> None:
    refused: list[str] = []
    rows = read_preferences(HH, refused)
    with gzip.open(HH) as lines:
        assert len(rows) + len(refused) == sum(1 for _ in lines) == 1168
    assert len(refused) == 4  # two empty completions, two pairs that part before their last turn
