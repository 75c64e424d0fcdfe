"""Train a reward model: a policy's backbone with a scalar head, Bradley-Terry on soft labels, a prompt's pairs at once.

Validation is by prompt, before and after training. Left out: ensembles, rankings, normalisation to a reference policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from training.data import Element, load_preferences, split_by_prompt
from training.engine import Engine, Mean, Terms
from training.layout import choose_layout
from training.losses.reward import bradley_terry, centering
from training.models import load_encoder, parameters, reward_model_from, save_model
from training.pairs import correct, pair_accuracy, pair_index
from training.result import TrainResult
from training.scorers import RewardScorer
from training.spec import RewardModelTask
from training.tree import TokenBatch

RECENT_STEPS = 10
"""Last steps over which the result averages training's own metrics."""


class RewardObjective:
    """Mean Bradley-Terry loss over the pairs of a step, plus centring."""

    def __init__(self, centering_weight: float) -> None:
        self.centering_weight = centering_weight

    def weight(self, element: Element) -> float:
        """Every pair counts once."""
        return len(element.pairs)

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        """Summed loss, accuracy and reward statistics of a micro-batch."""
        reward_N: Tensor = scorer(batch)
        pairs = pair_index(elements, reward_N.device, soft=True)
        chosen_P, rejected_P = reward_N[pairs.chosen_P], reward_N[pairs.rejected_P]
        loss_P = bradley_terry(chosen_P, rejected_P, pairs.probability_P)
        if self.centering_weight:
            loss_P = loss_P + self.centering_weight * centering(chosen_P, rejected_P)
        count = len(loss_P)
        metrics = {
            "accuracy": Mean(correct(chosen_P, rejected_P).detach().sum(), count),
            "margin": Mean((chosen_P - rejected_P).detach().sum(), count),
            "reward": Mean(reward_N.detach().sum(), len(reward_N)),
        }
        return Terms(loss_P.sum(), metrics)

    def stop_reason(self, means: Mapping[str, float]) -> str | None:  # noqa: ARG002
        """Never."""
        return None

    def state(self) -> dict[str, Any]:
        """Nothing is carried."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing is carried."""


def train_reward_model(spec: RewardModelTask, fingerprint: str) -> tuple[Engine, TrainResult]:
    """Train, measure on held-out prompts, save a Hugging Face folder under `spec.out / "model"`.

    Raises:
        InputError: bad data or model.
        TrainingError: see `Engine.fit`.
    """
    section = spec.section
    source = spec.model_paths[0]
    encoder = load_encoder(source)
    data = load_preferences(spec.data, encoder, section.max_length)
    split = split_by_prompt(data.elements, section.validation_fraction, spec.seed)
    engine = Engine(section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    model = reward_model_from(source, encoder, spec.seed)
    engine.layout = choose_layout(model, section.layout, section.max_length)
    scorer = RewardScorer(model)
    before = _accuracy(engine, scorer, split.validation)
    fit = engine.fit(scorer, split.train, RewardObjective(section.centering))
    after = _accuracy(engine, scorer, split.validation)
    metrics = {
        "validation/accuracy": after,
        "validation/accuracy_before": before,
        "validation/prompts": len(split.validation),
        "validation/pairs": sum(len(element.pairs) for element in split.validation),
        **engine.log.recent_means(("loss", "accuracy", "margin"), RECENT_STEPS),
        "train/prompts": len(split.train),
        "train/pairs": sum(len(element.pairs) for element in split.train),
        "dropped_pairs": data.dropped_pairs,
        "parameters": parameters(model),
        **fit.metrics(),
    }
    folder = spec.out / "model"
    if engine.is_main:
        save_model(model, source, encoder, folder)
    result = TrainResult(
        task=spec.task, fingerprint=fingerprint, model=str(folder), metrics=metrics, layout=engine.layout
    )
    return engine, result


def _accuracy(engine: Engine, scorer: RewardScorer, elements: Sequence[Element]) -> float:
    return pair_accuracy(engine.score(engine.prepare(scorer), elements, lambda reward_N: reward_N), elements)
