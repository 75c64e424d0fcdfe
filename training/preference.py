"""Train a policy on preferences, all pairs of a prompt in one prefix tree, with a cached reference.

Which loss is `section.objective`, an entry of `objectives`. Objectives without a reference get one all the same, for
the KL that is logged and watched: methods compare by it.

**The KL that `max_kl` watches** is k2 = ½·log²(π/π_ref), averaged over the completions of the last `KL_WINDOW` steps,
each measured before its update. The completions are the training data; if they were sampled from the reference, k2
estimates KL(π‖π_ref) and KL(π_ref‖π) alike to second order, and overestimates when they are far apart. `kl_forward`
(k1) is logged beside it. Neither is a measurement on fresh samples: evaluation makes that one. Left out: references
that move, KTO on completions that are in no pair.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ratify.canonical import model_digest
from ratify.sections import PreferenceSection
from training.adapters import save_trained, trainable
from training.baseline import mismatched, with_mismatched
from training.best import Validation
from training.data import Element, Split, load_preferences, split_by_prompt
from training.engine import Engine, Mean, Terms
from training.layout import check_logits, choose_layout
from training.logprobs import CompletionLogprobs
from training.losses.absolute import supervised
from training.losses.preference import kl_forward, kl_second_order
from training.models import context_limit, load_encoder, load_policy, parameters
from training.objectives import OBJECTIVES, Completions, Sides
from training.pairs import PairIndex, correct, margins, pair_accuracy, pair_index, require_margins
from training.reference import reference_logprobs
from training.result import TrainResult
from training.scorers import PolicyScorer
from training.spec import PreferenceTask
from training.tree import TokenBatch

KL_WINDOW = 4
"""Steps over which the KL estimate is averaged before it may stop training."""


MISMATCHED = "mismatched_log_ratio"
"""Metric that KTO's reference point is taken from."""


class PreferenceObjective:
    """Weighted mean of the chosen loss over the pairs of a step, with an early stop on KL."""

    def __init__(self, section: PreferenceSection, elements: Sequence[Element], reference: Sequence[Tensor]) -> None:
        self.section = section
        # Elements travel as themselves; their identity in this process finds their reference values again.
        self._reference = {id(element): values for element, values in zip(elements, reference, strict=True)}
        self._recent_kl: list[float] = []
        self._baseline = 0.0

    def weight(self, element: Element) -> float:
        """Every pair counts by its weight, which is 1 unless the data says otherwise."""
        return sum(pair.weight for pair in element.pairs)

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        """Summed loss and metrics of a micro-batch."""
        output: CompletionLogprobs = scorer(batch)
        policy_N = output.sum_N
        reference_N = torch.cat([self._reference[id(element)] for element in elements]).to(policy_N.device)
        completions = Completions(policy_N, reference_N, output.count_N)
        pairs = pair_index(elements, policy_N.device, soft=self.section.soft_labels)
        reward_N = OBJECTIVES[self.section.objective].reward(completions, self.section.beta)
        chosen_P, rejected_P = reward_N[pairs.chosen_P], reward_N[pairs.rejected_P]
        sides = Sides(chosen_P, rejected_P, pairs.probability_P, margins(elements, policy_N.device), self._baseline)
        loss_P = self._losses(sides, completions, pairs)
        policy_N, count = policy_N.detach(), len(loss_P)
        metrics = {
            "accuracy": Mean(correct(chosen_P, rejected_P).detach().sum(), count),
            "margin": Mean((chosen_P - rejected_P).detach().sum(), count),
            "chosen_logprob": Mean(policy_N[pairs.chosen_P].sum(), count),
            "rejected_logprob": Mean(policy_N[pairs.rejected_P].sum(), count),
            **self._kl(elements, policy_N, reference_N),
        }
        return Terms((loss_P * pairs.weight_P).sum(), metrics)

    def _losses(self, sides: Sides, completions: Completions, pairs: PairIndex) -> Tensor:
        """The objective, and the supervised term where it is asked for, (P,)."""
        loss_P = OBJECTIVES[self.section.objective].loss(sides, self.section)
        if self.section.supervised_weight:
            mean_N = completions.mean
            term_P = supervised(mean_N[pairs.chosen_P], mean_N[pairs.rejected_P], pairs.probability_P)
            loss_P = loss_P + self.section.supervised_weight * term_P
        return loss_P

    def _kl(self, elements: Sequence[Element], policy_N: Tensor, reference_N: Tensor) -> dict[str, Mean]:
        """KL estimates on the completions of pairs, and KTO's on the mismatched ones apart."""
        foreign: dict[str, Mean] = {}
        if self.section.objective == "kto":
            foreign_N = mismatched(elements, policy_N.device)
            log_ratio = (policy_N - reference_N)[foreign_N]
            foreign = {MISMATCHED: Mean(log_ratio.sum(), len(log_ratio))} if len(log_ratio) else {}
            policy_N, reference_N = policy_N[~foreign_N], reference_N[~foreign_N]
        completions = len(policy_N)
        kl = {
            "kl": Mean(kl_second_order(policy_N, reference_N).sum(), completions),
            "kl_forward": Mean(kl_forward(policy_N, reference_N).sum(), completions),
        }
        return kl | foreign

    def stop_reason(self, means: Mapping[str, float]) -> str | None:
        """Stop when the windowed k2 exceeds `max_kl`; KTO's reference point for the next step is taken here too."""
        self._baseline = max(0.0, means.get(MISMATCHED, 0.0))
        self._recent_kl = [*self._recent_kl, means["kl"]][-KL_WINDOW:]
        limit = self.section.max_kl
        if limit is None or len(self._recent_kl) < KL_WINDOW or self.recent_kl <= limit:
            return None
        return f"the estimated KL to the reference is {self.recent_kl:.3f} nats per reply, above max_kl = {limit}"

    def rewards(self, element: Element, policy_K: Tensor) -> Tensor:
        """The objective's own reward of an element's completions from their summed log-probabilities, (K,)."""
        count_K = torch.tensor([len(completion) for completion in element.completions])
        completions = Completions(policy_K, self._reference[id(element)].cpu(), count_K)
        return OBJECTIVES[self.section.objective].reward(completions, self.section.beta)

    @property
    def recent_kl(self) -> float:
        """Mean k2 over the window, nats per reply; 0 before the first step."""
        return sum(self._recent_kl) / len(self._recent_kl) if self._recent_kl else 0.0

    def state(self) -> dict[str, Any]:
        """The window and KTO's reference point, so that a resumed run goes on as an uninterrupted one does."""
        return {"recent_kl": self._recent_kl, "baseline": self._baseline}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the window and the reference point."""
        self._recent_kl = list(state["recent_kl"])
        self._baseline = float(state.get("baseline", 0.0))


def train_preference(spec: PreferenceTask, fingerprint: str) -> tuple[Engine, TrainResult]:
    """Cache the reference, train, save a Hugging Face folder that vLLM serves under `spec.out / "model"`.

    Raises:
        InputError: bad data or model.
        TrainingError: see `Engine.fit`.
    """
    section = spec.section
    encoder = load_encoder(spec.model)
    limit = context_limit(spec.model, section.max_length)
    data = load_preferences(spec.data, encoder, limit, drop_bad_rows=spec.drop_bad_rows)
    elements = data.elements
    if section.objective == "odpo":
        require_margins(elements, "preference.objective = 'odpo'")
    if section.objective == "kto":
        elements = with_mismatched(elements, limit)
    engine = Engine(section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    model = trainable(load_policy(spec.model), section.lora, "policy", spec.seed)
    engine.layout = choose_layout(model, section.layout, section.max_length)
    scorer = PolicyScorer(model, spec.temperature)
    check_logits(scorer)
    reference = reference_logprobs(engine, scorer, elements, model_digest(spec.model), spec.out)
    objective = PreferenceObjective(section, elements, reference)
    split = Split(elements, [])
    if section.validation_fraction:
        split = split_by_prompt(elements, section.validation_fraction, spec.seed)
    measure = functools.partial(_accuracy, engine, scorer, objective, split.validation)
    validation = Validation("accuracy", every, measure) if (every := section.validate_every_steps) else None
    fit = engine.fit(scorer, split.train, objective, validation)
    metrics = {
        **_held_out(measure, split.validation),
        **engine.log.recent_means(("loss", "accuracy", "margin", "kl", "kl_forward"), KL_WINDOW),
        "train/prompts": len(split.train),
        "train/pairs": sum(len(element.pairs) for element in split.train),
        "dropped_pairs": data.dropped_pairs,
        "dropped_rows": len(data.refused),
        "parameters": parameters(model),
        **fit.metrics(),
    }
    folder = spec.out / "model"
    if engine.is_main:
        save_trained(model, spec.model, encoder, folder, section.lora)
    result = TrainResult(
        task=spec.task,
        fingerprint=fingerprint,
        model=str(folder),
        metrics=metrics,
        layout=engine.layout,
        stopped_early=fit.stopped,
    )
    return engine, result


def _accuracy(
    engine: Engine, scorer: PolicyScorer, objective: PreferenceObjective, elements: Sequence[Element]
) -> float:
    """Share of held-out pairs that the objective's own reward orders as their labels do."""
    found = engine.score(engine.prepare(scorer), elements, lambda output: output.sum_N)
    return pair_accuracy([objective.rewards(e, values) for e, values in zip(elements, found, strict=True)], elements)


def _held_out(measure: Callable[[], float], elements: Sequence[Element]) -> dict[str, float]:
    """What the trained policy does on prompts kept aside; nothing where none are."""
    if not elements:
        return {}
    return {
        "validation/accuracy": measure(),
        "validation/prompts": len(elements),
        "validation/pairs": sum(len(element.pairs) for element in elements),
    }
