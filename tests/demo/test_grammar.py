"""The grammar's splits are disjoint, the written prompt files are the grammar's, every reply subject is trained on."""

import json
from pathlib import Path

import pytest

from demo import grammar, make_prompts, models
from demo.families import FAMILIES

PROMPTS = models.FOLDER / "prompts"


def test_train_and_heldout_share_no_prompt():
    train = {request.prompt for request in grammar.of_split("train")}
    heldout = {request.prompt for request in grammar.of_split("heldout")}
    assert not train & heldout
    assert len(train) > 1000
    assert len(heldout) > 340


def test_no_prompt_belongs_to_two_families():
    assert len(grammar.by_prompt()) == len(grammar.requests())


def test_every_family_is_in_both_splits():
    for split in ("train", "heldout"):
        assert {request.family for request in grammar.of_split(split)} == {family.name for family in FAMILIES}


def test_every_heldout_fact_is_trained_on_in_another_wording():
    known = {(request.family, request.row.told) for request in grammar.of_split("train")}
    for request in grammar.of_split("heldout"):
        if request.family != "notes":  # a note's subject is a combination of a person and a matter
            assert (request.family, request.row.told) in known


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_prompt_files_are_what_the_grammar_writes(split):
    rows = [json.loads(line) for line in Path(PROMPTS / f"{split}.jsonl").read_text().splitlines()]
    assert rows == make_prompts.prompt_rows(split)
    assert len({row["id"] for row in rows}) == len(rows)


def test_requests_are_the_same_on_every_call():
    first = grammar.requests()
    grammar.requests.cache_clear()
    assert grammar.requests() == first


def test_the_world_is_small_enough_for_a_tiny_model():
    words = {word.strip(".,?:") for request in grammar.requests() for word in request.prompt.split()}
    assert len(words) < 450
