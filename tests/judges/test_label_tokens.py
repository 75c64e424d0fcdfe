"""Label tokens: a tokenizer that has them passes, one that cuts an answer apart is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from judges.label_tokens import check_label_tokens
from ratify.errors import InputError
from ratify.lineage import ROOT
from tests.judges.readouts.scripted_server import section


@pytest.fixture
def bytes_only(tmp_path: Path) -> str:
    """A byte-level tokenizer without merges: one token per byte."""
    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


@pytest.mark.parametrize("protocol", ["pointwise", "pairwise"])
def test_the_shipped_judge_has_its_label_tokens(protocol: str) -> None:
    check_label_tokens(section(model=str(ROOT / "data" / "demo" / "judge"), protocol=protocol))


def test_an_answer_that_is_cut_apart_is_refused_with_its_pieces(bytes_only: str) -> None:
    with pytest.raises(InputError, match="cuts the answer 'Yes' into 'Y' 'e' 's', so that one token cannot tell it"):
        check_label_tokens(section(model=bytes_only, protocol="pointwise"))
    check_label_tokens(section(model=bytes_only, protocol="pairwise"))


def test_a_ten_of_two_tokens_needs_a_server_that_continues(bytes_only: str) -> None:
    check_label_tokens(section(model=bytes_only, readout="score"))
    with pytest.raises(InputError, match="cuts the answer '10' into '1' '0'"):
        check_label_tokens(section(model=bytes_only, readout="score", answer_turn="turn"))


@pytest.mark.parametrize("readout", ["json", "samples"])
def test_text_readouts_need_no_label_tokens(bytes_only: str, readout: str) -> None:
    check_label_tokens(section(model=bytes_only, readout=readout))


def test_what_is_no_folder_is_not_looked_at_and_a_broken_file_is_named(tmp_path: Path) -> None:
    check_label_tokens(section(model="some/name"))
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer\.json is no tokenizer"):
        check_label_tokens(section(model=str(tmp_path)))
