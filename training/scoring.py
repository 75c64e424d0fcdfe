"""Score completions with policies (log-probability, tokens) and reward models (reward), one child for several models.

Evaluation takes KL and rewards from here: KL(π‖π_ref) on replies sampled from π is the mean difference of two policies'
log-probabilities. Rows of one prompt share a prefix tree. Output is `scores.jsonl`, one line per input row, in order:

    {"id": "p1/new/0", "policy": {"logprob": -12.3, "tokens": 9}, "reward": {"reward": 0.41}}

Left out: per-token values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ratify.errors import InputError
from ratify.files import write_text
from training.data import Element, encode_completions
from training.engine import Engine
from training.layout import check_logits, choose_layout
from training.models import context_limit, kind_of, load_encoder, load_policy, load_reward_model
from training.result import TrainResult
from training.rows import ScoreRow, read_completions
from training.scorers import PolicyScorer, RewardScorer
from training.spec import ScoreTask

SCORES_FILE = "scores.jsonl"
Scores = dict[str, float] | None
"""`logprob` (nats) and `tokens` of a policy, `reward` of a reward model; None for a row that is too long."""


class Grouped(NamedTuple):
    """Rows of the same prompt tokens as one element, and where each row went."""

    elements: list[Element]
    places: list[tuple[int, int]]
    """For each row its element and the completion within it."""


def score_completions(spec: ScoreTask, fingerprint: str) -> tuple[Engine, TrainResult]:
    """Score every row with every model and write `spec.out / "scores.jsonl"`.

    Raises:
        InputError: bad rows or models, or no row that fits.
    """
    rows = read_completions(spec.data)
    engine = Engine(spec.section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    engine.log.keep_until(0)
    columns = {name: score_with(engine, model, rows, spec.temperature, name) for name, model in spec.models.items()}
    for name, model in spec.again.items():
        columns[name] = [None] * len(rows)
        for half in (0, 1):
            columns[name][half::2] = score_with(engine, spec.models[model], rows[half::2], spec.temperature, name)
    path = spec.out / SCORES_FILE
    if engine.is_main:
        write_text(path, "".join(_line(row, index, columns) for index, row in enumerate(rows)))
    metrics: dict[str, float] = {"rows": len(rows)}
    for name, column in columns.items():
        metrics |= _summary(name, column, spec.data)
    result = TrainResult(
        task=spec.task, fingerprint=fingerprint, scores=str(path), metrics=metrics, layout=engine.layout
    )
    return engine, result


def score_with(
    engine: Engine, model: str, rows: Sequence[ScoreRow], temperature: float = 1.0, phase: str = "score"
) -> list[Scores]:
    """Score rows with one model folder, recognised as policy or reward model by its configuration."""
    elements = encode_completions(rows, load_encoder(model))
    limit = context_limit(model, engine.section.max_length)
    fitting = [i for i, e in enumerate(elements) if len(e.prompt) + len(e.completions[0]) <= limit]
    grouped = group_by_prompt([elements[index] for index in fitting])
    scores: list[Scores] = [None] * len(rows)
    if not fitting:
        return scores
    values = _values(engine, model, grouped, temperature, f"score/{phase}")
    for index, (place, within) in zip(fitting, grouped.places, strict=True):
        scores[index] = {name: float(column[place][within]) for name, column in values.items()}
        if "logprob" in values:
            scores[index] = {**(scores[index] or {}), "tokens": len(elements[index].completions[0])}
    return scores


def group_by_prompt(elements: Sequence[Element]) -> Grouped:
    """Put single-completion elements with the same prompt tokens together; completions stay one per row."""
    order: dict[tuple[int, ...], int] = {}
    members: list[list[Element]] = []
    places = []
    for element in elements:
        place = order.setdefault(element.prompt, len(members))
        if place == len(members):
            members.append([])
        places.append((place, len(members[place])))
        members[place].append(element)
    return Grouped([g[0]._replace(completions=tuple(e.completions[0] for e in g)) for g in members], places)


def _values(
    engine: Engine, model: str, grouped: Grouped, temperature: float, phase: str
) -> Mapping[str, Sequence[Tensor]]:
    section = engine.section
    if kind_of(model) == "reward":
        reward_model = load_reward_model(model)
        engine.layout = choose_layout(reward_model, section.layout, section.max_length)
        rewards = engine.prepare(RewardScorer(reward_model))
        return {"reward": engine.score(rewards, grouped.elements, lambda reward_N: reward_N, phase)}
    scorer = PolicyScorer(load_policy(model), temperature)
    engine.layout = choose_layout(scorer.model, section.layout, section.max_length)
    check_logits(scorer)
    prepared = engine.prepare(scorer)
    return {"logprob": engine.score(prepared, grouped.elements, lambda output: output.sum_N, phase)}


def _line(row: ScoreRow, index: int, columns: Mapping[str, Sequence[Scores]]) -> str:
    scores = {name: column[index] for name, column in columns.items()}
    return json.dumps({"id": row.completion.id, **scores}, ensure_ascii=False) + "\n"


def _summary(name: str, column: Sequence[Scores], data: Path) -> dict[str, float]:
    scored = [scores for scores in column if scores is not None]
    if not scored:
        raise InputError(f"{data}: every row is longer than max_length tokens for model {name}; raise max_length")
    means = {key: torch.tensor([s[key] for s in scored], dtype=torch.float64).mean().item() for key in scored[0]}
    named = {f"{name}/{key}": value for key, value in means.items()}
    return {**named, f"{name}/dropped_rows": len(column) - len(scored)}
