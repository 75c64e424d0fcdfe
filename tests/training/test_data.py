"""Preference data: grouped by prompt, refused with file and row when bad."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from ratify.errors import InputError
from training.data import drop_long, load_preferences, split_by_prompt
from training.encoding import Encoder

LONG = 10_000
MakeRow = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer, "tiny")


def test_rows_of_a_prompt_become_one_element(encoder: Encoder, chat_row: MakeRow, write_rows: Write) -> None:
    rows = [
        chat_row("q", "a", "b", probability=0.9, margin=2.0, prompt_id="first"),
        chat_row("other", "a", "b"),
        chat_row("q", "a", "c", probability=0.6, prompt_id="first"),
    ]
    data = load_preferences(write_rows(rows), encoder, LONG)
    first, other = data.elements
    assert first.prompt_id == "first" and len(first.completions) == 3
    assert [(p.chosen, p.rejected, p.probability, p.margin) for p in first.pairs] == [
        (0, 1, 0.9, 2.0), (0, 2, 0.6, None),
    ]  # fmt: skip
    assert [(p.chosen, p.rejected, p.probability) for p in other.pairs] == [(0, 1, 1.0)]


def test_completion_ends_with_the_end_of_turn_and_not_behind_it(
    encoder: Encoder, chat_row: MakeRow, write_rows: Write
) -> None:
    element = load_preferences(write_rows([chat_row("q", "ab", "c")]), encoder, LONG).elements[0]
    decode = encoder.tokenizer.decode
    assert decode(element.prompt) == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert decode(element.completions[0]) == "ab<|im_end|>"


def test_truncated_completion_has_no_end_of_turn(encoder: Encoder, chat_row: MakeRow, write_rows: Write) -> None:
    rows = [chat_row("q", "ab", "c", chosen_finish_reason="length", rejected_finish_reason="stop")]
    element = load_preferences(write_rows(rows), encoder, LONG).elements[0]
    assert [encoder.tokenizer.decode(c) for c in element.completions] == ["ab", "c<|im_end|>"]


def test_plain_strings_bypass_the_template(encoder: Encoder, chat_row: MakeRow, write_rows: Write) -> None:
    encoder.tokenizer.chat_template, template = None, encoder.tokenizer.chat_template
    try:
        path = write_rows([{"prompt": "q: ", "chosen": "a", "rejected": "b"}])
        element = load_preferences(path, encoder, LONG).elements[0]
        with pytest.raises(InputError, match=r"tiny has no chat template.*chat_template\.jinja"):
            load_preferences(write_rows([chat_row("q", "a", "b")]), encoder, LONG)
    finally:
        encoder.tokenizer.chat_template = template
    assert encoder.tokenizer.decode(element.prompt) == "q: "
    assert encoder.tokenizer.decode(element.completions[0]) == "a<|im_end|>"


def test_template_that_rewrites_the_prompt_is_refused(encoder: Encoder, chat_row: MakeRow, write_rows: Write) -> None:
    template = encoder.tokenizer.chat_template
    encoder.tokenizer.chat_template = "{{ messages | length }}" + template
    try:
        with pytest.raises(InputError, match="not prefix-preserving"):
            load_preferences(write_rows([chat_row("q", "a", "b")]), encoder, LONG)
    finally:
        encoder.tokenizer.chat_template = template


def test_parquet_gzip_and_folders_are_read_alike(encoder: Encoder, chat_row: MakeRow, tmp_path: Path) -> None:
    rows = [chat_row("q", "a", "b", probability=0.8), chat_row("r", "a", "b", probability=0.7)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, row in enumerate(rows):
        with gzip.open(folder / f"{number}.jsonl.gz", "wt") as handle:
            handle.write(json.dumps(row) + "\n")
    parquet = load_preferences(tmp_path / "pairs.parquet", encoder, LONG)
    assert parquet == load_preferences(folder, encoder, LONG)
    assert parquet.pairs == 2


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rejected": None}, r"pairs\.jsonl:2: column 'rejected' is missing; the row has prompt, chosen"),
        ({"chosen": 3}, r":2: chosen must be text or a list of \{role, content\} messages, not int"),
        ({"chosen": []}, r":2: chosen must be .* not an empty list"),
        ({"chosen": [{"role": "user", "content": "a"}]}, r":2: chosen must be one assistant message"),
        ({"prompt": [{"role": "robot", "content": "a"}]}, r":2: prompt has a message of role 'robot'"),
        ({"prompt": ""}, r":2: the prompt is empty"),
        ({"chosen": said("")}, r":2: chosen is an empty completion"),
        ({"chosen": said("b")}, r":2: chosen equals rejected"),
        ({"probability": 1.5}, r":2: probability is 1\.5; it must lie between 0 and 1"),
        ({"probability": "high"}, r":2: probability must be a number, not 'high'"),
        ({"prompt_id": 7}, r":2: prompt_id must be text, not int"),
    ],
)
def test_bad_rows_are_named(
    changes: dict[str, Any], message: str, encoder: Encoder, chat_row: MakeRow, write_rows: Write
) -> None:
    good = chat_row("q", "a", "b")
    with pytest.raises(InputError, match=message):
        load_preferences(write_rows([good, {**good, **changes}]), encoder, LONG)


def test_bad_files_are_named(encoder: Encoder, tmp_path: Path) -> None:
    cases = {
        "empty.jsonl": ("", "dataset is empty"),
        "broken.jsonl": ("{", r"broken\.jsonl:1: not valid JSON"),
        "list.jsonl": ("[]", ":1: a row must be a JSON object"),
        "fake.parquet": ("x", "not a readable Parquet"),
    }
    for name, (text, message) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            load_preferences(tmp_path / name, encoder, LONG)
    with pytest.raises(InputError, match="no such data file"):
        load_preferences(tmp_path / "absent.parquet", encoder, LONG)


def test_long_pairs_are_dropped_and_counted(encoder: Encoder, chat_row: MakeRow, write_rows: Write) -> None:
    path = write_rows([chat_row("q", "a", "b" * 99), chat_row("q", "a", "c"), chat_row("r", "a" * 99, "b")])
    data = load_preferences(path, encoder, 60)
    assert (data.pairs, data.dropped_pairs, len(data.elements)) == (1, 2, 1)
    assert len(data.elements[0].completions) == 2 and drop_long(data.elements[0], 60) == data.elements[0]
    with pytest.raises(InputError, match="all 3 pairs are longer than max_length = 5"):
        load_preferences(path, encoder, 5)


def test_split_keeps_prompts_apart_and_depends_on_the_seed(
    encoder: Encoder, chat_row: MakeRow, write_rows: Write
) -> None:
    elements = load_preferences(write_rows([chat_row(f"q{n}", "a", "b") for n in range(20)]), encoder, LONG).elements
    split = split_by_prompt(elements, 0.2, seed=0)
    assert len(split.validation) == 4 and len(split.train) == 16
    assert split == split_by_prompt(elements, 0.2, seed=0) != split_by_prompt(elements, 0.2, seed=1)
    with pytest.raises(InputError, match="one prompt only"):
        split_by_prompt(elements[:1], 0.2, seed=0)
