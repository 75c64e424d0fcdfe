"""A tree of several principles over one reply is the same, token for token and logit for logit, as separate judge
calls."""

import random

import pytest
import torch

from demo import models, prompting
from demo.asking import PRINCIPLES, Question, log_odds
from demo.judge_data import Encoder, label
from demo.oracle import PARTS
from demo.tokens import build_tokenizer
from demo.trees import tree_mask
from demo.wordings import PROPERTY_WORDINGS

PROMPT = "What is the capital of France?"
REPLIES = ("Happy to help you. It is Paris.", "Go away now. It is Rome.")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(0)


@pytest.fixture(scope="module")
def judge(tokenizer):
    return models.grow(models.build_policy(tokenizer, 0), models.JUDGE_LAYERS, 0).eval()


def test_tree_mask_by_hand():
    mask = tree_mask(torch.tensor([[0, 0, 1, 2, 2, -1]]))[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("replies", [REPLIES[:1], REPLIES])
def test_log_odds_of_a_tree_equal_those_of_separate_calls(judge, tokenizer, replies):
    odds = log_odds(judge, tokenizer, [Question(PROMPT, replies), Question(PROMPT, replies[::-1])])[0]
    answers = ("Yes", "No") if len(replies) == 1 else ("A", "B")
    first, second = (tokenizer.convert_tokens_to_ids(answer) for answer in answers)
    for column, principle in enumerate(PRINCIPLES):
        ask = prompting.pointwise if len(replies) == 1 else prompting.pairwise
        message = {"role": "user", "content": ask(PROMPT, *replies, principle)}
        ids = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits = judge(input_ids=ids).logits[0, -1]
        assert torch.isclose(odds[column], logits[first] - logits[second], atol=1e-4)


def test_swapped_pair_swaps_the_targets(tokenizer):
    encoder = Encoder(tokenizer)
    a, b = (label(PROMPT, reply) for reply in REPLIES)
    there, back = encoder.pairwise(a, b, random.Random(5)), encoder.pairwise(b, a, random.Random(5))
    assert there.branches == back.branches
    assert there.targets == [1 - target for target in back.targets]
    assert there.targets[:2] == [1.0, 1.0]  # helpful, honest


def test_a_negated_wording_has_the_opposite_answer(tokenizer):
    del tokenizer
    polite = PROPERTY_WORDINGS[0]
    assert [polite.holds(label(PROMPT, reply).reading) for reply in REPLIES] == [True, False]


def test_layers_on_top_change_nothing_until_they_are_trained(tokenizer):
    policy = models.build_policy(tokenizer, 0).eval()
    judge = models.grow(policy, models.JUDGE_LAYERS, 1).eval()
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert torch.equal(policy(input_ids=ids).logits, judge(input_ids=ids).logits)
    assert judge.config.num_hidden_layers == models.JUDGE_LAYERS


def test_sentence_ends_are_marked_with_the_part_each_sentence_plays(tokenizer):
    encoder = Encoder(tokenizer)
    a, b = (label(PROMPT, reply) for reply in REPLIES)
    example = encoder.pairwise(a, b, random.Random(0))
    assert [PARTS[part] for _, part in example.parts] == ["polite", "right", "rude", "false"]
    assert {tokenizer.decode([example.trunk[at]]) for at, _ in example.parts} == {"."}
