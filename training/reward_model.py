"""Train a reward model: a policy's backbone with a scalar head, all pairs or the whole ranking of a prompt at once.

Which likelihood is `section.likelihood`. Validation is by prompt: accuracy before and after training, and whether σ
of a reward difference is a probability (expected calibration error). Several members (`ensemble`) are trained one after
the other. Left out: pointwise scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel

from ratify.sections import RewardModelSection
from training.adapters import save_trained
from training.best import Validation
from training.data import Element, Split, load_preferences, split_by_prompt
from training.engine import Engine, Mean, Terms
from training.ensemble import disagreement, member_folder, starts
from training.layout import choose_layout
from training.losses.ranking import davidson, plackett_luce
from training.losses.reward import bradley_terry, centering
from training.models import context_limit, load_encoder, parameters
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


class Trained(NamedTuple):
    """A member of the ensemble, or the only reward model there is."""

    metrics: dict[str, float]
    values: list[Tensor]
    """What it says of the prompts kept aside, as it is saved."""


def train_reward_model(spec: RewardModelTask, fingerprint: str) -> tuple[Engine, TrainResult]:
    """Train, measure on held-out prompts, save a Hugging Face folder under `spec.out / "model"`, one for each member.

    Raises:
        InputError: bad data or model.
        TrainingError: see `Engine.fit`.
    """
    section = spec.section
    source = spec.model_paths[0]
    encoder = load_encoder(source)
    limit = context_limit(source, section.max_length)
    data = load_preferences(spec.data, encoder, limit, drop_bad_rows=spec.drop_bad_rows)
    elements = data.elements
    if section.margin_scale:
        require_margins(elements, "reward_model.margin_scale")
    if section.likelihood == "plackett_luce":
        elements = ranked(elements)
    split = split_by_prompt(elements, section.validation_fraction, spec.seed)
    engine = Engine(section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    trained: list[Trained] = []
    for number, model in enumerate(starts(section, source, encoder, spec.seed)):
        own = engine.member(number) if number else engine
        trained.append(_train(own, section, model, split))
        if engine.is_main:
            save_trained(model, source, encoder, member_folder(spec.out, number), section.lora)
        if section.members > 1:
            engine.log.write("member", number + 1, section.members)
    metrics = {
        **trained[0].metrics,
        "validation/prompts": len(split.validation),
        "validation/pairs": sum(len(element.pairs) for element in split.validation),
        "train/prompts": len(split.train),
        "train/pairs": sum(len(element.pairs) for element in split.train),
        "dropped_pairs": data.dropped_pairs,
        "dropped_rows": len(data.refused),
    }
    if section.likelihood == "plackett_luce":
        metrics["unranked_prompts"] = len(data.elements) - len(elements)
    if section.members > 1:
        found = disagreement([member.values for member in trained], split.validation)
        metrics |= {f"ensemble/{name}": value for name, value in found._asdict().items()}
    result = TrainResult(
        task=spec.task,
        fingerprint=fingerprint,
        model=str(member_folder(spec.out, 0)),
        metrics=metrics,
        layout=engine.layout,
        members=tuple(member_folder(spec.out, number).name for number in range(section.members))[1:],
    )
    return engine, result


def _train(engine: Engine, section: RewardModelSection, model: PreTrainedModel, split: Split) -> Trained:
    """Train one model and measure it before and after."""
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
        **engine.log.recent_means(("loss", "accuracy", "margin"), RECENT_STEPS),
        "parameters": parameters(model),
        **fit.metrics(),
    }
    if not section.normalise:
        return Trained(metrics, after.values)
    found = moments(engine.score(engine.prepare(scorer), [*split.train, *split.validation], lambda reward_N: reward_N))
    fold(model, found)
    metrics |= {"reference/reward_mean": found.mean, "reference/reward_sd": found.sd}
    return Trained(metrics, [(value - found.mean) / found.sd for value in after.values])


class Measured(NamedTuple):
    """What held-out pairs say of a reward model."""

    accuracy: float
    calibration_error: float
    values: list[Tensor]


def _measured(engine: Engine, scorer: RewardScorer, elements: Sequence[Element]) -> Measured:
    values = engine.score(engine.prepare(scorer), elements, lambda reward_N: reward_N)
    return Measured(pair_accuracy(values, elements), calibration_error(values, elements), values)
