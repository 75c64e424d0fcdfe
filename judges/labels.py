"""Labels: what the verdicts about a pair add up to. A pure function of verdicts and constitution; no call is made here.

For a pair (a, b) and a principle i, z is a verdict's log-odds, first clamped to `aggregate.clamp` (two probabilities):

    pointwise   l_i = z_i(a) − z_i(b)               how much likelier a is to meet the principle
    pairwise    l_i = (z_i(a, b) − z_i(b, a)) / 2   mean of both orders, which cancels a constant position bias

`clamp` keeps one certain verdict from outvoting all others, and makes clear verdicts count about alike, as votes do.
Over the weighed principles that apply (weight w_i > 0, severity not `info`), the margin M in favour of a is

    logit_mean         M = Σ w_i l_i / Σ w_i             a logarithmic opinion pool (Genest & Zidek 1986): as sure as a
                                                         typical principle, however many there are
    logit_sum          M = Σ w_i l_i                     Bayes' rule for independent evidence: surer with each principle
    probability_mean   M = logit(Σ w_i σ(l_i) / Σ w_i)   a linear opinion pool (Stone 1961): a vote of probabilities

`logit_mean` is the default because the principles of a constitution overlap: a sum would count what they share several
times, and each new principle would sharpen every label. P(a is better) = σ(M). A label is a tie when |M| <
`min_margin` or |P − ½| < `tie_band`; it *failed*, with no number at all, when a weighed principle's verdict is missing
or when none applies.

A `hard` principle vetoes (unless `hard: weigh`) when |l_i| ≥ `veto_margin` and, pointwise, the losing reply rather
breaks it (z < 0) while the other rather meets it (z ≥ 0). Then the margin is taken over the vetoing principles of the
highest tier alone, by the same method; where these disagree, their weights decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from constitutions.schema import Aggregate, Constitution, Principle
from judges.questions import Pair, PairKeys, Questionnaire
from ratify.types import Failure, Label, Protocol, Verdict

_FARTHEST = 1e-12
"""Probabilities nearer to 0 or 1 than this are taken as this, so that a logit stays finite."""


class View(NamedTuple):
    """One principle's view of a pair."""

    principle: Principle
    log_odds: float
    """In favour of a."""
    vetoes: bool


def compute_labels(
    questionnaire: Questionnaire,
    verdicts: Mapping[str, Verdict],
    failures: Mapping[str, Failure],
    constitution: Constitution,
    protocol: Protocol,
) -> list[Label]:
    """One label per pair, in the order of the pairs; `failures` says why a verdict is missing, by key."""
    labeller = _Labeller(verdicts, failures, constitution, protocol)
    return [labeller.label(pair, keys) for pair, keys in zip(questionnaire.pairs, questionnaire.keys, strict=True)]


class _Labeller:
    def __init__(
        self,
        verdicts: Mapping[str, Verdict],
        failures: Mapping[str, Failure],
        constitution: Constitution,
        protocol: Protocol,
    ) -> None:
        self._verdicts = verdicts
        self._failures = failures
        self._constitution = constitution
        self._protocol = protocol
        self._principles = {principle.id: principle for principle in constitution.active}

    def label(self, pair: Pair, keys: Mapping[str, PairKeys]) -> Label:
        views = [self._view(name, both) for name, both in keys.items() if not self._lost(both)]
        missing = [sentence for name, both in keys.items() for sentence in self._missing(name, both)]
        weighed = [each for each in views if each.principle.decides]
        if not missing and not weighed:
            missing = ["no principle that is weighed applies"]
        margin = None if missing else pool(weighed, self._constitution)
        return Label(
            prompt_id=pair[0].prompt_id,
            a_id=pair[0].id,
            b_id=pair[1].id,
            outcome="failed" if margin is None else decide(margin, self._constitution),
            probability=None if margin is None else sigmoid(margin),
            margin=margin,
            by_principle={each.principle.id: each.log_odds for each in views},
            verdict_keys=tuple(sorted({key for both in keys.values() for key in both if key in self._verdicts})),
            failures=tuple(missing),
        )

    def _lost(self, both: PairKeys) -> list[str]:
        return [key for key in both if key not in self._verdicts]

    def _view(self, name: str, both: PairKeys) -> View:
        z_a, z_b = (self._verdicts[key].logit or 0.0 for key in both)
        return view(self._principles[name], z_a, z_b, self._constitution.aggregate, self._protocol)

    def _missing(self, name: str, both: PairKeys) -> list[str]:
        """Why a principle that is weighed has no view; an `info` principle may lack one."""
        if not self._principles[name].decides:
            return []
        return [f"{name}: {self._failures.get(key) or 'missing'}" for key in self._lost(both)]


def view(principle: Principle, z_a: float, z_b: float, aggregate: Aggregate, protocol: Protocol) -> View:
    """A principle's log-odds in favour of a from its two verdicts, and whether it vetoes the other reply."""
    z_a, z_b = clamped(z_a, aggregate), clamped(z_b, aggregate)
    log_odds = z_a - z_b if protocol == "pointwise" else (z_a - z_b) / 2
    one_breaks = protocol == "pairwise" or (z_a < 0) != (z_b < 0)
    strict = principle.severity == "hard" and aggregate.hard == "veto"
    return View(principle, log_odds, strict and one_breaks and 0 < abs(log_odds) >= aggregate.veto_margin)


def pool(views: Sequence[View], constitution: Constitution) -> float:
    """The margin M in favour of a, in log-odds."""
    vetoing = [each for each in views if each.vetoes]
    if vetoing:
        highest = min(constitution.tier_rank(each.principle) for each in vetoing)
        views = [each for each in vetoing if constitution.tier_rank(each.principle) == highest]
    total = math.fsum(each.principle.weight for each in views)
    method = constitution.aggregate.method
    if method == "probability_mean":
        return logit(math.fsum(each.principle.weight * sigmoid(each.log_odds) for each in views) / total)
    summed = math.fsum(each.principle.weight * each.log_odds for each in views)
    return summed if method == "logit_sum" else summed / total


def decide(margin: float, constitution: Constitution) -> Literal["a", "b", "tie"]:
    """Which reply the margin prefers, or a tie."""
    near_half = abs(sigmoid(margin) - 0.5) < constitution.judge_defaults.tie_band
    if margin == 0 or near_half or abs(margin) < constitution.aggregate.min_margin:
        return "tie"
    return "a" if margin > 0 else "b"


def clamped(z: float, aggregate: Aggregate) -> float:
    """Log-odds kept within `aggregate.clamp`, given as two probabilities."""
    if aggregate.clamp is None:
        return z
    return min(max(z, logit(aggregate.clamp[0])), logit(aggregate.clamp[1]))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(−x)), without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def logit(probability: float) -> float:
    """log(p / (1 − p)), finite for every p."""
    kept = min(max(probability, _FARTHEST), 1.0 - _FARTHEST)
    return math.log(kept / (1.0 - kept))
