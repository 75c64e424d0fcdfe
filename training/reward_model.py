"""Train a reward model: a policy's backbone with a scalar head, all pairs or the whole ranking of a prompt at once.

Which likelihood is `section.likelihood`. Validation is by prompt: accuracy before and after training, and whether σ
of a reward difference is a probability (expected calibration error). Left out: ensembles, pointwise scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ratify.sections import RewardModelSection
from training.adapters import save_trained, trainable
from training.best import Validation
from training.data import Element, load_preferences, split_by_prompt
from training.engine import Engine, Mean, Terms
from training.layout import choose_layout
from training.losses.ranking import davidson, plackett_luce
from training.losses.reward import bradley_terry, centering
from training.models import load_encoder, parameters, reward_model_from
from training.normalisation import fold, moments
from training.pairs import PairIndex, calibration_error, correct, margins, pair_accuracy, pair_index, require_margins
from training.rankings import ranked, ranking_index
from training.result import TrainResult
from training.scorers import RewardScorer
from training.spec import RewardModelTask
from training.tree import TokenBatch

RECENT_STEPS = 10
"""Last steps over which the result averages training's own metrics."""


class RewardObjective:
    """Weighted mean of the chosen likelihood's loss over the pairs or prompts of a step, plus centring."""

    def __init__(self, section: RewardModelSection) -> None:
        self.section = section
        self.by_prompt = section.likelihood in ("kwise", "plackett_luce")

    def weight(self, element: Element) -> float:
        """A pair counts by its weight, 1 unless the data says otherwise; a prompt by the mean of its pairs'."""
        total = sum(pair.weight for pair in element.pairs)
        return total / len(element.pairs) if self.by_prompt else total

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        """Summed loss, accuracy and reward statistics of a micro-batch."""
        reward_N: Tensor = scorer(batch)
        pairs = pair_index(elements, reward_N.device, soft=True)
        chosen_P, rejected_P = reward_N[pairs.chosen_P], reward_N[pairs.rejected_P]
        share_P = pairs.weight_P
        if self.by_prompt:
            # 1/C(K,2) before the sum over a prompt's pairs (arXiv 2203.02155, equation 1).
            share_P = share_P / pairs.siblings_P
        loss = (self._losses(reward_N, pairs, elements) * share_P).sum()
        if self.section.likelihood == "plackett_luce":
            ranking = ranking_index(elements, reward_N.device)
            weight_E = ranking.weight_E
            loss = loss + (plackett_luce(reward_N[ranking.place_EK], ranking.count_E) * weight_E).sum()
        count = len(chosen_P)
        metrics = {
            "accuracy": Mean(correct(chosen_P, rejected_P).detach().sum(), count),
            "margin": Mean((chosen_P - rejected_P).detach().sum(), count),
            "reward": Mean(reward_N.detach().sum(), len(reward_N)),
        }
        return Terms(loss, metrics)

    def _losses(self, reward_N: Tensor, pairs: PairIndex, elements: Sequence[Element]) -> Tensor:
        """What pairs add to the loss, (P,)."""
        section = self.section
        chosen_P, rejected_P = reward_N[pairs.chosen_P], reward_N[pairs.rejected_P]
        if section.likelihood == "plackett_luce":
            loss_P = reward_N.new_zeros(len(chosen_P))
        elif section.likelihood == "davidson":
            loss_P = davidson(chosen_P, rejected_P, pairs.probability_P, section.tie_strength or 1.0)
        else:
            margin_P = section.margin_scale * margins(elements, reward_N.device) if section.margin_scale else None
            loss_P = bradley_terry(chosen_P, rejected_P, pairs.probability_P, margin_P)
        if section.centering:
            loss_P = loss_P + section.centering * centering(chosen_P, rejected_P)
        return loss_P

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
    data = load_preferences(spec.data, encoder, section.max_length, drop_bad_rows=spec.drop_bad_rows)
    elements = data.elements
    if section.margin_scale:
        require_margins(elements, "reward_model.margin_scale")
    if section.likelihood == "plackett_luce":
        elements = ranked(elements)
    split = split_by_prompt(elements, section.validation_fraction, spec.seed)
    engine = Engine(section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    model = trainable(reward_model_from(source, encoder, spec.seed), section.lora, "reward", spec.seed)
    engine.layout = choose_layout(model, section.layout, section.max_length)
    scorer = RewardScorer(model)
    before = _measured(engine, scorer, split.validation)
    validation = None
    if every := section.validate_every_steps:
        validation = Validation("accuracy", every, lambda: _measured(engine, scorer, split.validation).accuracy)
    fit = engine.fit(scorer, split.train, RewardObjective(section), validation)
    after = _measured(engine, scorer, split.validation)
    metrics = {
        "validation/accuracy": after.accuracy,
        "validation/accuracy_before": before.accuracy,
        "validation/calibration_error": after.calibration_error,
        "validation/prompts": len(split.validation),
        "validation/pairs": sum(len(element.pairs) for element in split.validation),
        **engine.log.recent_means(("loss", "accuracy", "margin"), RECENT_STEPS),
        "train/prompts": len(split.train),
        "train/pairs": sum(len(element.pairs) for element in split.train),
        "dropped_pairs": data.dropped_pairs,
        "dropped_rows": len(data.refused),
        "parameters": parameters(model),
        **fit.metrics(),
    }
    if section.likelihood == "plackett_luce":
        metrics["unranked_prompts"] = len(data.elements) - len(elements)
    if section.normalise:
        found = moments(engine.score(engine.prepare(scorer), elements, lambda reward_N: reward_N))
        fold(model, found)
        metrics |= {"reference/reward_mean": found.mean, "reference/reward_sd": found.sd}
    folder = spec.out / "model"
    if engine.is_main:
        save_trained(model, source, encoder, folder, section.lora)
    result = TrainResult(
        task=spec.task, fingerprint=fingerprint, model=str(folder), metrics=metrics, layout=engine.layout
    )
    return engine, result


class Measured(NamedTuple):
    """What held-out pairs say of a reward model."""

    accuracy: float
    calibration_error: float


def _measured(engine: Engine, scorer: RewardScorer, elements: Sequence[Element]) -> Measured:
    values = engine.score(engine.prepare(scorer), elements, lambda reward_N: reward_N)
    return Measured(pair_accuracy(values, elements), calibration_error(values, elements))
