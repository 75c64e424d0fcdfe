"""Facts about the demo tokenizer and chat template that judging and training rely on."""

import random

import pytest
from transformers import AutoTokenizer

from demo import grammar, models, prompting, train_policy
from demo.sampling import chat_head
from demo.tokens import build_tokenizer
from demo.wordings import PROPERTY_WORDINGS, WORDINGS


@pytest.fixture(scope="module", params=["policy", "judge"])
def tokenizer(request):
    return AutoTokenizer.from_pretrained(models.FOLDER / request.param)


def ids(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, return_dict=False, **options)


TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is 3 plus 4?"},
    {"role": "assistant", "content": "It makes 7."},
    {"role": "user", "content": "Tell me the colour of snow."},
    {"role": "assistant", "content": "It is white."},
]


@pytest.mark.parametrize("answer", prompting.ANSWERS)
def test_each_answer_is_one_token_at_the_start_of_the_assistants_turn(tokenizer, answer):
    question = [{"role": "user", "content": "What is 3 plus 4?"}]
    head = ids(tokenizer, question, add_generation_prompt=True)
    whole = ids(tokenizer, [*question, {"role": "assistant", "content": answer}])
    assert whole[: len(head)] == head
    assert tokenizer.convert_ids_to_tokens(whole[len(head) :])[:2] == [answer, "<|end|>"]


def test_chat_template_is_prefix_preserving(tokenizer):
    whole = ids(tokenizer, TURNS)
    for count in range(1, len(TURNS)):
        part = ids(tokenizer, TURNS[:count], add_generation_prompt=TURNS[count]["role"] == "assistant")
        assert whole[: len(part)] == part


def test_recipes_write_the_same_text_as_the_chat_template(tokenizer):
    text = tokenizer.apply_chat_template([TURNS[1]], tokenize=False, add_generation_prompt=True)
    assert text == chat_head(TURNS[1]["content"])


def test_end_and_padding_are_different_special_tokens(tokenizer):
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.decode(ids(tokenizer, [TURNS[1]]), skip_special_tokens=True).strip() == "What is 3 plus 4?"


def test_loaded_tokenizer_cuts_the_worlds_text_as_in_training(tokenizer):
    trained, rng = build_tokenizer(train_policy.SEED), random.Random(4)
    for request in grammar.requests()[::3]:
        reply = grammar.compose(request, grammar.draw_recipe(request, rng), rng)
        for text in (request.prompt, reply, prompting.pointwise(request.prompt, reply, PROPERTY_WORDINGS[0].text)):
            assert tokenizer.encode(text) == trained.encode(text)
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_any_text_survives_a_round_trip(tokenizer):
    for text in ("Zürich – naïve €5, 日本 🙂", "a  b\n\nc\t{d}", "\n\nPrinciple: x"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_fixed_text_of_the_judge_templates_is_one_token_each(tokenizer):
    for protocol in ("pointwise", "pairwise"):
        assert any(part in prompting.template(protocol) for part in prompting.FIXED_TEXT)
    for text in prompting.FIXED_TEXT:
        assert len(tokenizer.encode(text)) == 1


def test_a_judge_call_is_short(tokenizer):
    text = prompting.pointwise("What is 3 plus 4?", "Happy to help you. It makes 7.", PROPERTY_WORDINGS[0].text)
    assert len(ids(tokenizer, [{"role": "user", "content": text}], add_generation_prompt=True)) < 64


def test_wordings_are_distinct_and_start_with_the_constitutions_own():
    assert len({wording.text for wording in WORDINGS}) == len(WORDINGS)
    constitution = (models.FOLDER.parents[1] / "constitutions" / "demo.yaml").read_text(encoding="utf-8")
    for wording in PROPERTY_WORDINGS:
        assert f"text: {wording.text}\n" in constitution
