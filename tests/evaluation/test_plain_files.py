"""Two plain files of completions: what they show, and what is wrong with a file."""

import json

import pytest

from evaluation.gate import decide
from evaluation.plain_files import compare_files, read_completions
from ratify.errors import InputError
from ratify.gate_section import GateSection


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_two_files_show_length_and_repetition(tmp_path) -> None:
    old = write(tmp_path / "old.jsonl", [{"prompt_id": n, "text": f"answer {n} is here today"} for n in range(40)])
    new = write(tmp_path / "new.jsonl", [{"prompt_id": n, "response": "always the same"} for n in range(1, 60)])
    report = compare_files(old, new)
    assert report.metrics["evaluate/words/old"].value == 5 and report.metrics["evaluate/words/new"].value == 3
    assert report.metrics["evaluate/words/new"].clusters == 39, "only prompts that both answer"
    assert report.metrics["evaluate/duplicates/new"].value == 1.0
    assert "win_rate" in report.missing and decide(report, GateSection()).decision == "INSUFFICIENT"


def test_prompts_may_be_given_as_text_or_messages(tmp_path) -> None:
    rows = [
        {"prompt": "why?", "text": ""},
        {"prompt": "why?", "text": "so"},
        {"prompt": [{"role": "user"}], "text": "x"},
    ]
    found = read_completions(write(tmp_path / "a.jsonl", rows), "old")
    assert len({reply.prompt_id for reply in found}) == 2 and len({reply.id for reply in found}) == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{"], "a.jsonl:1: not JSON"),
        ([{"prompt_id": "p", "text": "x"}, "[]"], "a.jsonl:2: not an object"),
        ([{"prompt_id": "p"}], "a.jsonl:1: no text"),
        ([{"prompt_id": "p", "text": None}], "a.jsonl:1: no text"),
        ([{"text": "x"}], "a.jsonl:1: no prompt"),
        ([], "has no completions"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, rows, said) -> None:
    with pytest.raises(InputError, match=said):
        read_completions(write(tmp_path / "a.jsonl", rows), "old")


def test_files_that_are_no_text_or_share_no_prompt_are_refused(tmp_path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_completions(tmp_path / "b.jsonl", "old")
    first = write(tmp_path / "a.jsonl", [{"prompt_id": "p", "text": "x"}])
    second = write(tmp_path / "c.jsonl", [{"prompt_id": "q", "text": "x"}])
    with pytest.raises(InputError, match="no prompt in common"):
        compare_files(first, second)
