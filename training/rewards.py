"""Where rewards come from: one protocol for reward models, ensembles, functions, judges and mixtures of them.

A source says for each completion a number or that it has none (NaN): a judge that abstained, a check that does not
apply. A completion without a score takes no part in anything, so its gradient is zero; it is never taken for 0. Each
source's own scores travel along by name, so that mixtures can be logged part by part. Left out: checks of texts
(`verifiable`), normalisation and the KL penalty (`reward_shaping`); judges themselves, which come in as callables.

Shapes: N completions of a rollout batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ratify.errors import TrainingError
from training.data import Element
from training.engine import Engine
from training.rollouts import Group, PromptItem, Sampled


class Scored(NamedTuple):
    """What a source says of N completions."""

    value_N: Tensor
    """float64; NaN where there is no score."""
    parts: dict[str, Tensor]
    """Each component's own scores by name, NaN where it has none."""

    @property
    def has_score_N(self) -> Tensor:  # noqa: N802
        """True where there is one."""
        return ~self.value_N.isnan()


class Rollout(NamedTuple):
    """What a source may look at."""

    item: PromptItem
    sampled: Sampled
    text: str
    """The completion as text, without the token that ended it."""


class Batch(NamedTuple):
    """Everything sampled in one step; completions are numbered in the order of groups."""

    groups: Sequence[Group]
    elements: Sequence[Element]
    """The groups as elements, the same objects that training lays out."""
    rollouts: Sequence[Rollout]


class RewardSource(Protocol):
    """Gives scores; may carry state that checkpoints keep."""

    def score(self, batch: Batch) -> Scored:
        """A score for each completion, in the order of `batch.rollouts`."""

    def state(self) -> dict[str, Any]:
        """What the source carries from step to step, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint's state."""


class Stateless:
    """A source that carries nothing."""

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class ModelReward(Stateless):
    """A reward model that scores the sampled tokens themselves."""

    def __init__(self, name: str, engine: Engine, scorer: nn.Module) -> None:
        self.name = name
        self.engine = engine
        self.scorer = scorer

    def score(self, batch: Batch) -> Scored:
        """The head's value at each completion's last token.

        Raises:
            TrainingError: a reward is no number; that is a broken model, not a missing score.
        """
        value_N = torch.cat(self.engine.score(self.scorer, batch.elements, lambda reward_N: reward_N)).double()
        if not value_N.isfinite().all():
            raise TrainingError(f"reward model {self.name} gives {value_N[~value_N.isfinite()][0]} for a completion")
        return Scored(value_N, {self.name: value_N})


class FunctionReward(Stateless):
    """A function of one completion; None means no score."""

    def __init__(self, name: str, function: Callable[[Rollout], float | None]) -> None:
        self.name = name
        self.function = function

    def score(self, batch: Batch) -> Scored:
        """The function's values."""
        value_N = _tensor([self.function(rollout) for rollout in batch.rollouts])
        return Scored(value_N, {self.name: value_N})


Pointwise = Callable[[Sequence[Rollout]], Sequence[float | None]]
"""Scores completions together, so that the caller can cache, batch and budget; None is an abstention."""
Pairwise = Callable[[Sequence[tuple[Rollout, Rollout]]], Sequence[float | None]]
"""P(first is better) of each pair; None is an abstention."""


class JudgeReward(Stateless):
    """Direct RLAIF: a judge's scores are the reward (d-RLAIF, arXiv 2309.00267)."""

    def __init__(self, name: str, judge: Pointwise) -> None:
        self.name = name
        self.judge = judge

    def score(self, batch: Batch) -> Scored:
        """One call for the whole batch, in every process; they must all be told the same.

        Raises:
            TrainingError: the judge answers for another number of completions.
        """
        value_N = _tensor(_answers(self.name, self.judge(batch.rollouts), len(batch.rollouts)))
        return Scored(value_N, {self.name: value_N})


class GroupJudgeReward(Stateless):
    """A pairwise judge: a completion's reward is its mean probability to beat the others of its prompt."""

    def __init__(self, name: str, judge: Pairwise) -> None:
        self.name = name
        self.judge = judge

    def score(self, batch: Batch) -> Scored:
        """Every pair once, in one call; no score where the judge abstained on all of a completion's pairs."""
        pairs = list(_pairs(batch))
        rollouts = batch.rollouts
        answers = _answers(self.name, self.judge([(rollouts[a], rollouts[b]) for a, b in pairs]), len(pairs))
        wins: list[list[float]] = [[] for _ in rollouts]
        for (a, b), answer in zip(pairs, answers, strict=True):
            if answer is not None and not math.isnan(answer):
                wins[a].append(answer)
                wins[b].append(1 - answer)
        value_N = _tensor([sum(won) / len(won) if won else None for won in wins])
        return Scored(value_N, {self.name: value_N})


class Ensemble:
    """Several sources of the same thing as one (Coste et al., arXiv 2310.02743).

    `mean`; `min`, their worst-case optimisation; `variance_penalised`, mean − penalty·variance, their
    uncertainty-weighted optimisation. Where a member has no score, the ensemble has none.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[RewardSource],
        combine: Literal["mean", "min", "variance_penalised"],
        penalty: float = 1.0,
    ) -> None:
        self.name = name
        self.members = members
        self.combine = combine
        self.penalty = penalty

    def score(self, batch: Batch) -> Scored:
        """The members' scores as one; their disagreement is logged as `<name>_variance`."""
        scored = [member.score(batch) for member in self.members]
        value_EN = torch.stack([one.value_N for one in scored])
        variance_N = value_EN.var(0, correction=0)
        if self.combine == "min":
            # NaN in, NaN out, whatever the others say.
            value_N = value_EN.amin(0)
        else:
            value_N = value_EN.mean(0) - (self.penalty * variance_N if self.combine == "variance_penalised" else 0.0)
        members = {f"{self.name}_{index}": one.value_N for index, one in enumerate(scored)}
        return Scored(value_N, {self.name: value_N, f"{self.name}_variance": variance_N, **members})

    def state(self) -> dict[str, Any]:
        """The members' own."""
        return _states(self.members)

    def restore(self, state: Mapping[str, Any]) -> None:
        """The members' own."""
        _restore(self.members, state)


class Mixture:
    """Several objectives as one number: weighted sum or worst case, each subject to constraints.

    A constraint "mean of c is at least d" enters as λ·(c − d) with a dual variable λ ≥ 0 that rises while it is
    violated: λ ← max(0, λ + η·(d − mean c)) (Safe RLHF, arXiv 2310.12773). As its code does, the sum is divided by
    1 + Σλ, so that rewards keep their scale. Where a part has no score, the mixture has none.
    """

    def __init__(
        self,
        sources: Sequence[RewardSource],
        weights: Sequence[float],
        at_least: Sequence[float | None],
        *,
        combine: Literal["sum", "worst"] = "sum",
        dual_learning_rate: float = 0.1,
    ) -> None:
        self.sources = sources
        self.weights = weights
        self.at_least = at_least
        self.combine = combine
        self.dual_learning_rate = dual_learning_rate
        self.duals = [0.0] * len(sources)

    def score(self, batch: Batch) -> Scored:
        """One number, every part's scores, and the dual variables after this batch has moved them."""
        scored = [source.score(batch) for source in self.sources]
        wanted = [
            weight * one.value_N
            for one, weight, bound in zip(scored, self.weights, self.at_least, strict=True)
            if bound is None
        ]
        stacked = torch.stack(wanted)
        value_N = stacked.sum(0) if self.combine == "sum" else stacked.amin(0)
        parts = {name: part for one in scored for name, part in one.parts.items()}
        for place, (one, bound) in enumerate(zip(scored, self.at_least, strict=True)):
            if bound is not None:
                value_N = value_N + self.duals[place] * (one.value_N - bound)
        value_N = value_N / (1 + sum(self.duals))
        self._move_duals(scored)
        for place, bound in enumerate(self.at_least):
            if bound is not None:
                parts[f"dual_{place}"] = torch.tensor([self.duals[place]], dtype=torch.float64)
        return Scored(value_N, parts)

    def _move_duals(self, scored: Sequence[Scored]) -> None:
        for place, (one, bound) in enumerate(zip(scored, self.at_least, strict=True)):
            mean = float(one.value_N.nanmean())
            if bound is not None and not math.isnan(mean):
                self.duals[place] = max(0.0, self.duals[place] + self.dual_learning_rate * (bound - mean))

    def state(self) -> dict[str, Any]:
        """Dual variables, and the sources' own."""
        return {"duals": self.duals, **_states(self.sources)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Dual variables, and the sources' own."""
        self.duals = list(state["duals"])
        _restore(self.sources, state)


def _pairs(batch: Batch) -> list[tuple[int, int]]:
    """All pairs of completions of the same prompt, by number."""
    found: list[tuple[int, int]] = []
    start = 0
    for group in batch.groups:
        end = start + len(group.completions)
        found += [(a, b) for a in range(start, end) for b in range(a + 1, end)]
        start = end
    return found


def _answers(name: str, answers: Sequence[float | None], wanted: int) -> Sequence[float | None]:
    if len(answers) != wanted:
        raise TrainingError(f"reward {name} answered {len(answers)} of {wanted} questions; it must answer each or None")
    return answers


def _tensor(values: Sequence[float | None]) -> Tensor:
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)


def _states(sources: Sequence[RewardSource]) -> dict[str, Any]:
    return {"sources": [source.state() for source in sources]}


def _restore(sources: Sequence[RewardSource], state: Mapping[str, Any]) -> None:
    for source, own in zip(sources, state["sources"], strict=True):
        source.restore(own)
