"""Train a policy on preferences: DPO with soft labels, all pairs of a prompt in one prefix tree, a cached reference.

**The KL that `max_kl` watches** is k2 = ½·log²(π/π_ref), averaged over the completions of the last `KL_WINDOW` steps,
each measured before its update. The completions are the training data; if they were sampled from the reference, k2
estimates KL(π‖π_ref) and KL(π_ref‖π) alike to second order, and overestimates when they are far apart. `kl_forward`
(k1) is logged beside it. Neither is a measurement on fresh samples: evaluation makes that one. Left out: the other
objectives of the family, a supervised term, references that move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ratify.canonical import model_digest
from ratify.sections import PreferenceSection
from training.data import Element, load_preferences
from training.engine import Engine, Mean, Terms
from training.layout import check_logits, choose_layout
from training.losses.preference import dpo, implicit_reward, kl_forward, kl_second_order
from training.models import load_encoder, load_policy, parameters, save_model
from training.pairs import correct, pair_index
from training.reference import reference_logprobs
from training.result import TrainResult
from training.scorers import PolicyScorer
from training.spec import PreferenceTask
from training.tree import TokenBatch

KL_WINDOW = 4
"""Steps over which the KL estimate is averaged before it may stop training."""


class PreferenceObjective:
    """Mean DPO loss over the pairs of a step, with an early stop on KL."""

    def __init__(self, section: PreferenceSection, elements: Sequence[Element], reference: Sequence[Tensor]) -> None:
        self.section = section
        # Elements travel as themselves; their identity in this process finds their reference values again.
        self._reference = {id(element): values for element, values in zip(elements, reference, strict=True)}
        self._recent_kl: list[float] = []

    def weight(self, element: Element) -> float:
        """Every pair counts once."""
        return len(element.pairs)

    def terms(self, scorer: nn.Module, elements: Sequence[Element], batch: TokenBatch) -> Terms:
        """Summed loss and metrics of a micro-batch."""
        policy_N: Tensor = scorer(batch).sum_N
        reference_N = torch.cat([self._reference[id(element)] for element in elements]).to(policy_N.device)
        reward_N = implicit_reward(policy_N, reference_N, self.section.beta)
        pairs = pair_index(elements, policy_N.device, soft=self.section.soft_labels)
        chosen_P, rejected_P = reward_N[pairs.chosen_P], reward_N[pairs.rejected_P]
        loss_P = dpo(chosen_P, rejected_P, pairs.probability_P)
        policy_N = policy_N.detach()
        count, completions = len(loss_P), len(policy_N)
        metrics = {
            "accuracy": Mean(correct(chosen_P, rejected_P).detach().sum(), count),
            "margin": Mean((chosen_P - rejected_P).detach().sum(), count),
            "chosen_logprob": Mean(policy_N[pairs.chosen_P].sum(), count),
            "rejected_logprob": Mean(policy_N[pairs.rejected_P].sum(), count),
            "kl": Mean(kl_second_order(policy_N, reference_N).sum(), completions),
            "kl_forward": Mean(kl_forward(policy_N, reference_N).sum(), completions),
        }
        return Terms(loss_P.sum(), metrics)

    def stop_reason(self, means: Mapping[str, float]) -> str | None:
        """Stop when the windowed k2 exceeds `max_kl`."""
        self._recent_kl = [*self._recent_kl, means["kl"]][-KL_WINDOW:]
        limit = self.section.max_kl
        if limit is None or len(self._recent_kl) < KL_WINDOW or self.recent_kl <= limit:
            return None
        return f"the estimated KL to the reference is {self.recent_kl:.3f} nats per reply, above max_kl = {limit}"

    @property
    def recent_kl(self) -> float:
        """Mean k2 over the window, nats per reply; 0 before the first step."""
        return sum(self._recent_kl) / len(self._recent_kl) if self._recent_kl else 0.0

    def state(self) -> dict[str, Any]:
        """The window, so that a resumed run stops where an uninterrupted one does."""
        return {"recent_kl": self._recent_kl}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the window."""
        self._recent_kl = list(state["recent_kl"])


def train_preference(spec: PreferenceTask, fingerprint: str) -> tuple[Engine, TrainResult]:
    """Cache the reference, train, save a Hugging Face folder that vLLM serves under `spec.out / "model"`.

    Raises:
        InputError: bad data or model.
        TrainingError: see `Engine.fit`.
    """
    section = spec.section
    encoder = load_encoder(spec.model)
    data = load_preferences(spec.data, encoder, section.max_length)
    engine = Engine(section, seed=spec.seed, out=spec.out, fingerprint=fingerprint)
    model = load_policy(spec.model)
    engine.layout = choose_layout(model, section.layout, section.max_length)
    scorer = PolicyScorer(model, spec.temperature)
    check_logits(scorer)
    reference = reference_logprobs(engine, scorer, data.elements, model_digest(spec.model), spec.out)
    objective = PreferenceObjective(section, data.elements, reference)
    fit = engine.fit(scorer, data.elements, objective)
    metrics = {
        **engine.log.recent_means(("loss", "accuracy", "margin", "kl", "kl_forward"), KL_WINDOW),
        "train/prompts": len(data.elements),
        "train/pairs": data.pairs,
        "dropped_pairs": data.dropped_pairs,
        "parameters": parameters(model),
        **fit.metrics(),
    }
    folder = spec.out / "model"
    if engine.is_main:
        save_model(model, spec.model, encoder, folder)
    result = TrainResult(
        task=spec.task,
        fingerprint=fingerprint,
        model=str(folder),
        metrics=metrics,
        layout=engine.layout,
        stopped_early=fit.stopped,
    )
    return engine, result
