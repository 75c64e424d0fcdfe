"""Completions are scored by the tokens that were sampled, where the data has them."""

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from ratify.errors import InputError
from training.data import encode_completions
from training.encoding import Encoder
from training.rows import read_completions


def rows(path: Path, **changes: object) -> Path:
    row = {"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "ab"}]}
    path.write_text(json.dumps(row | changes) + "\n")
    return path


def test_sampled_tokens_go_before_the_text(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer, "tiny")
    text_only = encode_completions(read_completions(rows(tmp_path / "a.jsonl")), encoder)
    sampled = encode_completions(read_completions(rows(tmp_path / "b.jsonl", token_ids=[70, 71, 2])), encoder)
    assert sampled[0].completions == ((70, 71, 2),)
    assert text_only[0].prompt == sampled[0].prompt and text_only[0].completions != sampled[0].completions


@pytest.mark.parametrize("wrong", [[], "12", [1.5], [True]])
def test_tokens_of_another_kind_are_refused(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.jsonl:1: token_ids must be a list of whole numbers"):
        read_completions(rows(tmp_path / "a.jsonl", token_ids=wrong))
