"""Supervised fine-tuning: the completion's tokens are learnt, the prompt's are only read.

The loss of a step is the sum over its completion tokens divided by their number in the whole step, over micro-batches
and processes alike, so a token counts the same wherever it stands. Completions of one prompt share its prefix tree.
Of a conversation the last assistant turn is learnt. Left out: packing prompts of different trees into one row,
learning every turn of a conversation, row weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ratify.errors import InputError
from training.adapters import save_trained, trainable
from training.best import Validation
from training.data import Element, encode_completions, split_by_prompt
from training.encoding import Encoder
from training.engine import Engine, Mean, Terms
from training.layout import check_logits, choose_layout
from training.logprobs import CompletionLogprobs
from training.models import context_limit, load_encoder, load_policy, parameters
from training.result import TrainResult
from training.rows import read_supervised
from training.scorers import PolicyScorer
from training.scoring import group_by_prompt
from training.spec import SupervisedTask
from training.tree import TokenBatch

RECENT_STEPS = 10
"""Last steps over which the result averages training's own metrics."""


class SupervisedObjective:
    """Mean negative log-probability of the completion tokens of a step."""

    def weight(self, element: Element) -> float:
        """Every completion token counts once."""
        return sum(map(len, element.completions))

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:  # noqa: ARG002
        """Summed loss, and the mean log-probability of a whole completion."""
        output: CompletionLogprobs = scorer(batch)
        metrics = {"completion_logprob": Mean(output.sum_N.detach().sum(), len(output.sum_N))}
        return Terms(-output.token_M.sum(), metrics)

    def stop_reason(self, means: Mapping[str, float]) -> str | None:  # noqa: ARG002
        """Never."""
        return None

    def state(self) -> dict[str, Any]:
        """Nothing is carried."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried."""


def train_supervised(spec: SupervisedTask, fingerprint: str) -> tuple[Engine, TrainResult]:
    """Train, measure on held-out prompts, save a Hugging Face folder that vLLM serves under `spec.out / "model"`.

    Raises:
        InputError: bad data or model.
        TrainingError: see `Engine.fit`.
    """
    section = spec.section
    encoder = load_encoder(spec.model)
    elements, dropped = load_supervised(spec.data, encoder, context_limit(spec.model, section.max_length))
    split = split_by_prompt(elements, section.validation_fraction, spec.seed)
    engine = Engine(section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    model = trainable(load_policy(spec.model), section.lora, "policy", spec.seed)
    engine.layout = choose_layout(model, section.layout, section.max_length)
    scorer = PolicyScorer(model, spec.temperature)
    check_logits(scorer)
    before = mean_loss(engine, scorer, split.validation)
    validation = None
    if every := section.validate_every_steps:
        validation = Validation(
            "loss", every, lambda: mean_loss(engine, scorer, split.validation), lower_is_better=True
        )
    fit = engine.fit(scorer, split.train, SupervisedObjective(), validation)
    after = mean_loss(engine, scorer, split.validation)
    metrics = {
        "validation/loss": after,
        "validation/loss_before": before,
        "validation/perplexity": math.exp(min(after, 80.0)),
        "validation/prompts": len(split.validation),
        **engine.log.recent_means(("loss", "completion_logprob"), RECENT_STEPS),
        "train/prompts": len(split.train),
        "train/completions": sum(len(element.completions) for element in split.train),
        "dropped_rows": dropped,
        "parameters": parameters(model),
        **fit.metrics(),
    }
    folder = spec.out / "model"
    if engine.is_main:
        save_trained(model, spec.model, encoder, folder, section.lora)
    result = TrainResult(
        task=spec.task, fingerprint=fingerprint, model=str(folder), metrics=metrics, layout=engine.layout
    )
    return engine, result


def load_supervised(path: Path, encoder: Encoder, max_length: int) -> tuple[list[Element], int]:
    """Rows grouped by prompt, and how many were dropped because they exceed `max_length` tokens.

    Raises:
        InputError: a bad row, no row, or none that fits.
    """
    rows = encode_completions(read_supervised(path), encoder)
    fitting = [row for row in rows if len(row.prompt) + len(row.completions[0]) <= max_length]
    if not fitting:
        raise InputError(
            f"{path}: all {len(rows)} rows are longer than max_length = {max_length} tokens; raise max_length"
        )
    return group_by_prompt(fitting).elements, len(rows) - len(fitting)


def mean_loss(engine: Engine, scorer: PolicyScorer, elements: Sequence[Element]) -> float:
    """Mean negative log-probability of the completion tokens, nats per token."""
    found = engine.score(engine.prepare(scorer), elements, lambda output: output.sum_N)
    tokens = sum(len(completion) for element in elements for completion in element.completions)
    return -float(sum(values.double().sum() for values in found)) / tokens
