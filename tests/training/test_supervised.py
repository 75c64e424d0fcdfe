"""Supervised fine-tuning: only completion tokens count, each the same, and the task learns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from ratify.errors import InputError
from ratify.sections import SupervisedSection
from training import child
from training.data import Element
from training.engine import Engine
from training.models import load_encoder
from training.scorers import PolicyScorer
from training.spec import SupervisedTask, load_spec
from training.supervised import SupervisedObjective, load_supervised, train_supervised
from training.tree import token_batch

Write = Callable[..., Path]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def rows(count: int) -> list[dict[str, Any]]:
    """Half the rows as `messages`, half as prompt and completion; every reply is the same letters."""
    made: list[dict[str, Any]] = []
    for number in range(count):
        prompt, reply = [turn("user", f"say {number}")], turn("assistant", "xyx" + "y" * (number % 3))
        made.append({"messages": [*prompt, reply]} if number % 2 else {"prompt": prompt, "completion": [reply]})
    return made


def test_messages_and_prompt_with_completion_read_alike(policy_folder: Path, write_rows: Write) -> None:
    prompt, reply = [turn("system", "s"), turn("user", "hi")], turn("assistant", "xy")
    encoder = load_encoder(str(policy_folder))
    one, _ = load_supervised(write_rows([{"messages": [*prompt, reply]}], "a.jsonl"), encoder, 200)
    other, _ = load_supervised(write_rows([{"prompt": prompt, "completion": "xy"}], "b.jsonl"), encoder, 200)
    assert [e[1:] for e in one] == [e[1:] for e in other]
    assert encoder.tokenizer.decode(one[0].completions[0]) == "xy<|im_end|>"


def test_parquet_and_shared_prompts(policy_folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    messages = [[turn("user", "hi"), turn("assistant", text)] for text in ("x", "yy", "z" * 100)]
    pq.write_table(pa.Table.from_pylist([{"messages": m} for m in messages]), tmp_path / "d.parquet")
    elements, dropped = load_supervised(tmp_path / "d.parquet", load_encoder(str(policy_folder)), 60)
    assert dropped == 1 and [len(e.completions) for e in elements] == [2]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [turn("user", "hi")]}, "at least one turn before the assistant's"),
        ({"messages": [turn("user", "hi"), turn("user", "ho")]}, "completion must be one assistant message"),
        ({"messages": [turn("user", "a"), turn("assistant", "b")], "completion": "b"}, "keep one form"),
        ({"messages": [turn("user", "hi"), turn("assistant", "")]}, "empty completion"),
        ({"text": "hi"}, "column 'completion' is missing"),
        ({"prompt": "a", "completion": "b" * 400}, "all 1 rows are longer than max_length = 200"),
    ],
)
def test_bad_rows_are_refused(row: dict[str, Any], words: str, policy_folder: Path, write_rows: Write) -> None:
    with pytest.raises(InputError, match=words):
        load_supervised(write_rows([row]), load_encoder(str(policy_folder)), 200)


def naive_loss(model: nn.Module, elements: list[Element]) -> float:
    """Each sequence for itself, the labels of the prompt left out, one mean over all tokens."""
    total, tokens = 0.0, 0
    for element in elements:
        for completion in element.completions:
            ids = torch.tensor([[*element.prompt, *completion]])
            logits = model(input_ids=ids).logits[0, len(element.prompt) - 1 : -1].double()
            total += float(cross_entropy(logits, torch.tensor(completion), reduction="sum"))
            tokens += len(completion)
    return total / tokens


@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_loss_is_the_mean_over_completion_tokens(layout: Any, tiny_model: Callable[..., Any]) -> None:
    elements = [Element("a", (5, 6, 7), ((8, 9), (10,))), Element("b", (11,), ((12, 13, 14, 15, 16),))]
    model, objective = tiny_model(), SupervisedObjective()
    with torch.no_grad():
        terms = objective.terms(PolicyScorer(model), elements, token_batch(elements, layout))
        expected = naive_loss(model, elements)
    assert [objective.weight(e) for e in elements] == [3, 5]
    assert float(terms.loss_sum) / 8 == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("budget", [1, 8192])
def test_step_loss_has_one_denominator_whatever_the_micro_batch(
    budget: int, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    elements = [Element(f"p{k}", (5, 6 + k), (tuple(range(8, 9 + 2 * k)),)) for k in range(5)]
    section = SupervisedSection(batch_prompts=5, tokens_per_micro_batch=budget, threads=1)
    model = tiny_model()
    with torch.no_grad():
        expected = naive_loss(model, elements)
    engine = Engine(section, seed=0, out=tmp_path)
    engine.fit(PolicyScorer(model), elements, SupervisedObjective())
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    first = next(line for line in lines if "loss" in line)
    assert first["loss"] == pytest.approx(expected, rel=1e-5)


def test_task_learns_and_leaves_a_plain_folder(policy_folder: Path, write_rows: Write, tmp_path: Path) -> None:
    section = SupervisedSection(
        learning_rate=1e-2, epochs=6, batch_prompts=8, threads=1, validation_fraction=0.2, schedule="constant"
    )
    spec = SupervisedTask(data=write_rows(rows(30)), out=tmp_path / "sft", model=str(policy_folder), section=section)
    _, result = train_supervised(spec, "mark")
    metrics = result.metrics
    assert metrics["validation/loss"] < 0.5 * metrics["validation/loss_before"]
    assert metrics["validation/loss_before"] == pytest.approx(math.log(264), rel=0.1)  # a random model guesses
    assert metrics["train/prompts"] == 24 and metrics["validation/prompts"] == 6 and result.task == "sft"
    AutoModelForCausalLM.from_pretrained(str(result.model))


def test_child_runs_the_task_of_a_spec_file(policy_folder: Path, write_rows: Write, tmp_path: Path) -> None:
    spec = SupervisedTask(
        data=write_rows(rows(8)), out=tmp_path / "out", model=str(policy_folder), section=SupervisedSection(threads=1)
    )
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json())
    assert load_spec(path) == spec
    assert child.main([str(path)]) == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["task"] == "sft"
