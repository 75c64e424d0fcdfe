"""What lies in data/demo really works: sizes, settings, and a judge and a policy as good as the measured figures
say."""

import json

import pytest
import torch

from demo import grammar, models
from demo.asking import PRINCIPLES, Question, log_odds
from demo.make_gold import gold
from demo.oracle import PROPERTIES, assess
from demo.sampling import sample_replies

GOLD = models.FOLDER / "gold_pairs.jsonl"
BELOW = 0.06  # how far a small sample may lie under a measured figure


@pytest.fixture(scope="module")
def measured():
    return json.loads((models.FOLDER / "measured.json").read_text())


@pytest.fixture(scope="module")
def gold_rows():
    return [json.loads(line) for line in GOLD.read_text().splitlines()]


def test_everything_together_stays_under_25_mb():
    total = sum(path.stat().st_size for path in models.FOLDER.rglob("*") if path.is_file())
    assert total < 25 * 2**20


@pytest.mark.parametrize("folder", [models.POLICY, models.JUDGE])
def test_models_are_of_a_kind_that_vllm_serves_on_a_cpu(folder):
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["hidden_size"] // config["num_attention_heads"] == models.HEAD
    assert config["eos_token_id"] == generation["eos_token_id"] != config["pad_token_id"]
    assert (folder / "chat_template.jinja").is_file()


def test_gold_labels_are_what_the_oracle_says(gold_rows):
    heldout = {request.prompt for request in grammar.of_split("heldout")}
    assert len(gold_rows) > 250
    for row in gold_rows:
        prompt = row["messages"][0]["content"]
        assert prompt in heldout
        assert row["gold"] == gold(prompt, row["a"], row["b"])
        assert row["gold"]["overall"] != "tie"


def test_judge_agrees_with_the_oracle_on_gold_pairs(gold_rows, measured):
    judge, tokenizer = models.load(models.JUDGE)
    rows = gold_rows[::3]
    prompts = [row["messages"][0]["content"] for row in rows]
    a, b = (
        log_odds(judge, tokenizer, [Question(prompt, (row[side],)) for prompt, row in zip(prompts, rows, strict=True)])
        for side in ("a", "b")
    )
    agrees = ((a - b).sum(-1) > 0) == torch.tensor([row["gold"]["overall"] == "a" for row in rows])
    expected = measured["judge_pointwise"]["agreement_by_aggregation"]["logit_mean"]
    assert agrees.float().mean() > expected - BELOW


@pytest.mark.parametrize(
    "principle", [PRINCIPLES[0], "The reply is courteous and kind.", "The reply shows good manners."]
)
def test_judge_tells_courtesy_from_rudeness_in_the_rules_own_words_and_in_others(principle):
    judge, tokenizer = models.load(models.JUDGE)
    replies = ("Of course, I am glad to help. It is Paris.", "Go away now. It is Paris.")
    questions = [Question("What is the capital of France?", (reply,)) for reply in replies]
    kind, rude = log_odds(judge, tokenizer, questions, (principle,))[:, 0]
    assert kind > 0 > rude


def test_policy_writes_the_worlds_language(measured):
    policy, tokenizer = models.load(models.POLICY)
    prompts = [request.prompt for request in grammar.of_split("heldout")][::2]
    truths = [
        assess(prompt, reply)
        for prompt, reply in zip(prompts, sample_replies(policy, tokenizer, prompts, seed=1), strict=True)
    ]
    assert sum(truth.well_formed for truth in truths) / len(truths) > measured["policy"]["well_formed"] - BELOW
    for name in PROPERTIES:
        rate = sum(getattr(truth, name) for truth in truths) / len(truths)
        assert abs(rate - measured["policy"][name]) < 0.13
