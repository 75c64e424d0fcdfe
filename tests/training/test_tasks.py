"""The tasks: they learn, begin where theory says, and leave folders that Hugging Face reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from ratify.errors import InputError
from ratify.sections import ObjectiveName, OptimiserSection, PreferenceSection, RewardModelSection
from training.metrics import read_metrics
from training.models import load_encoder, reward_model_from, reward_pad
from training.preference import train_preference
from training.reward_model import train_reward_model
from training.scoring import score_completions
from training.spec import PreferenceTask, RewardModelTask, ScoreTask

Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
FAST = {"learning_rate": 5e-3, "epochs": 4, "batch_prompts": 8, "threads": 1}


@pytest.fixture
def preference_spec(policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path) -> PreferenceTask:
    section = PreferenceSection(**FAST)
    data = write_rows(learnable_rows(40))
    return PreferenceTask(data=data, out=tmp_path / "dpo", model=str(policy_folder), section=section)


def test_dpo_begins_at_log_2_with_no_kl_and_learns(preference_spec: PreferenceTask) -> None:
    engine, result = train_preference(preference_spec, "mark")
    steps = [m for m in read_metrics(preference_spec.out / "metrics.jsonl") if "loss" in m]
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-9) and steps[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert result.metrics["train/accuracy"] > 0.9 and result.metrics["train/loss"] < 0.6
    assert result.metrics["train/kl"] > 0.01
    assert result.metrics["steps"] == result.metrics["planned_steps"] == 20 and engine.layout == "packed"


def test_trained_policy_is_a_plain_folder(preference_spec: PreferenceTask, policy_folder: Path) -> None:
    _, result = train_preference(preference_spec, "mark")
    assert result.model is not None
    folder = Path(result.model)
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= names
    trained, start = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, policy_folder))
    assert not torch.equal(trained.lm_head.weight, start.lm_head.weight)
    assert (
        AutoTokenizer.from_pretrained(folder).chat_template
        == AutoTokenizer.from_pretrained(policy_folder).chat_template
    )


def test_reward_model_learns_and_huggingface_reads_the_same_rewards(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    section = RewardModelSection(validation_fraction=0.2, **FAST)
    data = write_rows(learnable_rows(60))
    spec = RewardModelTask(data=data, out=tmp_path / "rm", model=str(policy_folder), section=section)
    _, result = train_reward_model(spec, "mark")
    metrics = result.metrics
    assert metrics["validation/accuracy"] > 0.85 > metrics["validation/accuracy_before"]
    prompts = len({row["prompt_id"] for row in learnable_rows(60)})
    assert metrics["validation/prompts"] == round(0.2 * prompts) == prompts - metrics["train/prompts"]
    assert metrics["validation/pairs"] + metrics["train/pairs"] == len(learnable_rows(60))

    rows = [{"prompt": [{"role": "user", "content": "hi"}], "completion": c, "id": c} for c in ("xx", "xyy", "yyyy")]
    score = ScoreTask(
        data=write_rows(rows, "score.jsonl"), out=tmp_path / "score", models={"rm": str(result.model)},
        section=OptimiserSection(threads=1),
    )  # fmt: skip
    score_completions(score, "mark")
    ours = [json.loads(line) for line in (tmp_path / "score" / "scores.jsonl").read_text().splitlines()]
    assert [line["id"] for line in ours] == ["xx", "xyy", "yyyy"]
    assert ours[0]["rm"]["reward"] > ours[2]["rm"]["reward"]
    theirs = AutoModelForSequenceClassification.from_pretrained(result.model)
    assert theirs.config.num_labels == 1
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    texts = [tokenizer.apply_chat_template(r["prompt"], tokenize=False, add_generation_prompt=True) for r in rows]
    batch = tokenizer([t + r["completion"] + "<|im_end|>" for t, r in zip(texts, rows, strict=True)], padding=True,
                      return_tensors="pt", padding_side="right")  # fmt: skip
    with torch.no_grad():
        logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
    assert_close(torch.tensor([line["rm"]["reward"] for line in ours]), logits, rtol=1e-4, atol=1e-5)


def test_reward_head_is_small_and_seeded(policy_folder: Path) -> None:
    encoder = load_encoder(str(policy_folder))
    heads = [reward_model_from(str(policy_folder), encoder, seed).score.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert 0.1 < float(heads[0].detach().std()) < 0.5  # 1/√17 = 0.243


def test_reward_pad_never_ends_a_completion(policy_folder: Path) -> None:
    encoder = load_encoder(str(policy_folder))
    encoder.tokenizer.pad_token = "<|im_end|>"
    assert reward_pad(encoder) not in (None, encoder.tokenizer.convert_tokens_to_ids("<|im_end|>"))


def test_scores_equal_the_models_own_logprobs(policy_folder: Path, write_rows: Write, tmp_path: Path) -> None:
    """Two policies over rows whose prompts repeat, one completion cut off, one row too long."""
    chat = [{"role": "user", "content": "hi"}]
    rows = [
        {"prompt": chat, "completion": "xy", "id": "a", "finish_reason": "stop"},
        {"prompt": [{"role": "user", "content": "ho"}], "completion": "yx", "id": "b"},
        {"prompt": chat, "completion": [{"role": "assistant", "content": "xxx"}], "id": "c", "finish_reason": "length"},
        {"prompt": chat, "completion": "y" * 100, "id": "d"},
    ]
    spec = ScoreTask(
        data=write_rows(rows, "score.jsonl"), out=tmp_path / "out", temperature=0.8,
        models={"new": str(policy_folder), "old": str(policy_folder)}, again={"new again": "new"},
        section=OptimiserSection(threads=1, max_length=90),
    )  # fmt: skip
    _, result = score_completions(spec, "mark")
    lines = [json.loads(line) for line in Path(str(result.scores)).read_text().splitlines()]
    assert (
        lines[3] == {"id": "d", "new": None, "old": None, "new again": None} and result.metrics["new/dropped_rows"] == 1
    )
    assert [line["new"]["tokens"] for line in lines[:3]] == [3, 3, 3]
    assert all(line["new"] == line["old"] for line in lines[:3])
    for line in lines[:3]:
        assert line["new again"]["logprob"] == pytest.approx(line["new"]["logprob"], rel=1e-5), "in its own row's place"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(policy_folder), AutoTokenizer.from_pretrained(policy_folder)
    prompt = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))["input_ids"]
    completion = tokenizer("xy<|im_end|>")["input_ids"]
    with torch.no_grad():
        logprob = (model(torch.tensor([prompt + completion])).logits[0] / 0.8).log_softmax(-1)
    own = sum(float(logprob[len(prompt) - 1 + i, token]) for i, token in enumerate(completion))
    assert lines[0]["new"]["logprob"] == pytest.approx(own, rel=1e-5)


def test_models_that_cannot_be_loaded_are_named(tmp_path: Path, policy_folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is not a Hugging Face model folder: it has no config.json"):
        load_encoder(str(tmp_path / "empty"))
    copy = tmp_path / "no-weights"
    copy.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (copy / name).write_bytes((policy_folder / name).read_bytes())
    spec = PreferenceTask(data=tmp_path / "x.jsonl", out=tmp_path / "out", model=str(copy))
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(InputError, match=r"model .*no-weights cannot be loaded: .*safetensors"):
        train_preference(spec, "mark")


def test_pair_longer_than_the_models_context_is_dropped_and_counted(
    policy_folder: Path,
    write_rows: Write,
    tmp_path: Path,
    chat_row: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The tiny model reads 256 tokens, the section allows 2,048."""
    data = write_rows([chat_row("a", "x", "y"), chat_row("b", "x" * 300, "y"), chat_row("c", "x", "y")])
    section = PreferenceSection(threads=1, batch_prompts=4)
    _, result = train_preference(
        PreferenceTask(data=data, out=tmp_path / "out", model=str(policy_folder), section=section), "mark"
    )
    assert result.metrics["dropped_pairs"] == 1 and result.metrics["train/pairs"] == 2
    assert "max_length is 2048" in caplog.text and "reads 256 tokens at most: longer rows are dropped" in caplog.text


@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_every_objective_learns_to_prefer(
    objective: str, policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    """Eight prompts, ten steps: the objective's own reward orders the pairs, and KL is measured whatever the objective.

    APO-down is meant for chosen completions that are worse than the policy: here it first pushes both down.
    """
    betas = {"simpo": 2.0, "orpo": 1.0, "ipo_mean": 0.5}
    section = PreferenceSection(
        objective=objective, beta=betas.get(objective, 0.1), learning_rate=1e-2, epochs=10, batch_prompts=8, threads=1,
        schedule="constant",
    )  # fmt: skip
    spec = PreferenceTask(
        data=write_rows(learnable_rows(8)), out=tmp_path / "out", model=str(policy_folder), section=section
    )
    _, result = train_preference(spec, "mark")
    steps = [m for m in read_metrics(spec.out / "metrics.jsonl") if "loss" in m]
    assert steps[-1]["loss"] < steps[0]["loss"]
    if objective == "apo_down":
        assert steps[-1]["chosen_logprob"] < steps[0]["chosen_logprob"]
    else:
        assert steps[-1]["accuracy"] > 0.8
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-9) and result.metrics["train/kl"] > 0
    assert ("mismatched_log_ratio" in steps[0]) == (objective == "kto")


@pytest.mark.parametrize("likelihood", ["kwise", "plackett_luce", "davidson"])
def test_every_likelihood_learns_and_can_be_normalised(
    likelihood: Any, policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    section = RewardModelSection(validation_fraction=0.2, likelihood=likelihood, normalise=True, **FAST)
    data = write_rows(learnable_rows(30))
    spec = RewardModelTask(data=data, out=tmp_path / "rm", model=str(policy_folder), section=section)
    _, result = train_reward_model(spec, "mark")
    assert result.metrics["validation/accuracy"] > 0.8 and result.metrics["reference/reward_sd"] > 0
    assert 0 <= result.metrics["validation/calibration_error"] < 0.5
    config = json.loads((Path(str(result.model)) / "config.json").read_text())
    mean, sd = (result.metrics[f"reference/reward_{name}"] for name in ("mean", "sd"))
    assert config["reward_offset"] == pytest.approx(mean / sd) and config["reward_scale"] == pytest.approx(sd)


def test_offsets_need_margins(policy_folder: Path, write_rows: Write, chat_row: Callable[..., Any]) -> None:
    data = write_rows([chat_row("hi", "x", "y")])
    spec = PreferenceTask(
        data=data, out=data.parent / "out", model=str(policy_folder), section=PreferenceSection(objective="odpo")
    )
    with pytest.raises(InputError, match="preference.objective = 'odpo' needs a margin above 0"):
        train_preference(spec, "mark")
