"""How far labels can be trusted: agreement of a judge, or of a reward model, with a preference known to be right.

Gold may be people, or a world whose truth can be computed; it comes in as plain values. Agreement is counted where both
sides decided; ties and failures of the judge are reported beside it, since a judge that abstains on the hard pairs
looks better than it is. Kappa (Cohen 1960) stands beside accuracy because accuracy alone rewards guessing the common
answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, estimate, mean
from ratify.types import Label, Verdict

Side = Literal["a", "b", "tie"]
Pair = tuple[str, str]
"""Completion ids of `a` and `b`, in a label's order."""
Properties = Mapping[str, Mapping[str, bool]]
"""Completion id → property (a principle's id) → does the reply have it?"""


class Agreement(NamedTuple):
    """Agreement of binary decisions with gold, clustered by prompt."""

    accuracy: Estimate
    """Share of the decided cases in which both agree."""
    kappa: Estimate | None
    """Agreement beyond chance; None when gold or judge never varies."""
    ties: int
    """Gold decided, the judge tied."""
    failed: int
    """Gold decided, the judge gave nothing readable."""


class Case(NamedTuple):
    """One judgement beside the truth; `judged` is None when it failed, `tie` when undecided."""

    prompt_id: str
    judged: bool | Literal["tie"] | None
    truth: bool


def agreement(cases: Iterable[Case], how: Resampling = STANDARD) -> Agreement:
    """Accuracy and kappa over the cases in which the judge decided.

    Raises:
        EvidenceError: when it decided none.
    """
    cases = list(cases)
    decided = [case for case in cases if isinstance(case.judged, bool)]
    if not decided:
        raise EvidenceError(f"agreement: none of {len(cases)} cases was decided by the judge")
    judged = np.array([case.judged is True for case in decided])
    truth = np.array([case.truth for case in decided])
    prompts = [case.prompt_id for case in decided]
    return Agreement(
        accuracy=mean((judged == truth).astype(np.float64), prompts, how, share=True),
        kappa=_kappa(judged, truth, prompts, how),
        ties=sum(case.judged == "tie" for case in cases),
        failed=sum(case.judged is None for case in cases),
    )


def pair_agreement(labels: Sequence[Label], gold: Mapping[Pair, Side], how: Resampling = STANDARD) -> Agreement:
    """Agreement of the labels' outcomes with gold, on the pairs that gold decides."""
    cases = []
    for label in labels:
        truth = gold.get((label.a_id, label.b_id))
        if truth in ("a", "b"):
            judged: bool | Literal["tie"] | None = label.outcome == "a"
            if label.outcome in ("tie", "failed"):
                judged = "tie" if label.outcome == "tie" else None
            cases.append(Case(label.prompt_id, judged, truth == "a"))
    return agreement(cases, how)


def principle_agreement(
    labels: Sequence[Label], principle: str, gold: Mapping[Pair, Side], how: Resampling = STANDARD
) -> Agreement:
    """Agreement of one principle's log-odds with gold for that principle; log-odds of exactly zero are a tie."""
    cases = []
    for label in labels:
        truth = gold.get((label.a_id, label.b_id))
        if truth in ("a", "b"):
            odds = label.by_principle.get(principle)
            judged: bool | Literal["tie"] | None = None if odds is None else ("tie" if odds == 0 else odds > 0)
            cases.append(Case(label.prompt_id, judged, truth == "a"))
    return agreement(cases, how)


def verdict_agreement(verdicts: Iterable[Verdict], properties: Properties, how: Resampling = STANDARD) -> Agreement:
    """Agreement of pointwise verdicts (positive log-odds: it meets the principle) with the truth of each reply."""
    cases = []
    for verdict in verdicts:
        truth = properties.get(verdict.first_id, {}).get(verdict.principle)
        if verdict.protocol == "pointwise" and truth is not None:
            judged: bool | Literal["tie"] | None = None if verdict.logit is None else verdict.logit > 0
            cases.append(Case(verdict.prompt_id, judged, truth))
    return agreement(cases, how)


def gold_by_principle(labels: Iterable[Label], properties: Properties, principle: str) -> dict[Pair, Side]:
    """Gold for one principle: the reply that has the property where the other lacks it, else a tie."""
    return gold_by_weight(labels, properties, {principle: 1.0})


def gold_by_weight(labels: Iterable[Label], properties: Properties, weights: Mapping[str, float]) -> dict[Pair, Side]:
    """Gold over several properties: the reply with the larger weighted sum of them; equal sums are a tie."""
    gold: dict[Pair, Side] = {}
    for label in labels:
        first, second = properties.get(label.a_id, {}), properties.get(label.b_id, {})
        if not all(name in first and name in second for name in weights):
            continue
        lead = sum(weight * (first[name] - second[name]) for name, weight in weights.items())
        gold[label.a_id, label.b_id] = "tie" if abs(lead) < 1e-9 else ("a" if lead > 0 else "b")
    return gold


def reward_accuracy(labels: Sequence[Label], rewards: Mapping[str, float], how: Resampling = STANDARD) -> Estimate:
    """Share of decided pairs in which the reward model scores the preferred reply higher; equal scores count one half.

    Pairs without both scores are left out.

    Raises:
        EvidenceError: when no decided pair has both scores.
    """
    scored = [
        label
        for label in labels
        if label.outcome in ("a", "b") and label.a_id in rewards and label.b_id in rewards
    ]  # fmt: skip
    if not scored:
        raise EvidenceError("reward model accuracy: no decided pair has both rewards")
    gaps = np.array([rewards[label.a_id] - rewards[label.b_id] for label in scored])
    signs = np.array([1.0 if label.outcome == "a" else -1.0 for label in scored])
    credit = (np.sign(gaps) * signs + 1) / 2
    return mean(credit, [label.prompt_id for label in scored], how, share=True)


def _kappa(
    judged: NDArray[np.bool_], truth: NDArray[np.bool_], prompts: Sequence[str], how: Resampling
) -> Estimate | None:
    """Cohen's kappa from the sums of (both true, judged true, truth true, cases)."""
    columns = [judged & truth, judged, truth, np.ones(len(judged))]
    try:
        return estimate(columns, prompts, _kappa_of_sums, how)
    except EvidenceError:
        return None


def _kappa_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    both, judged, truth, n = sums[..., 0], sums[..., 1], sums[..., 2], sums[..., 3]
    observed = (n - judged - truth + 2 * both) / n
    chance = (judged * truth + (n - judged) * (n - truth)) / n**2
    return np.asarray((observed - chance) / (1 - chance))
