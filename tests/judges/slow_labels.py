"""Labels and preference data one pair at a time, in plain Python: the oracle of `judges/aggregate.py` and
`judges/label_table.py`, which must give the same to the last bit and byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from constitutions.schema import Aggregate, Constitution, Principle
from judges.aggregate import logit, sigmoid
from judges.dataset import LABEL_COLUMNS, write_table
from judges.questions import Pair, PairKeys, Questionnaire
from ratify.types import Completion, Failure, Label, Message, PreferencePair, Prompt, Protocol, Verdict


class View(NamedTuple):
    """One principle's view of a pair."""

    principle: Principle
    log_odds: float
    """In favour of a."""
    vetoes: bool


def slow_labels(
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


class Dataset(NamedTuple):
    """Preference pairs, and what became of the other labels."""

    pairs: list[PreferencePair]
    ties: int
    failed: int
    identical: int
    empty: int
    """Decided labels in which a reply is empty; a trainer has nothing to learn from it."""


def slow_dataset(
    labels: Iterable[Label],
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Completion],
    constitution_hash: str,
) -> Dataset:
    """Turn decided labels into pairs; `prompts` and `completions` are by id."""
    pairs: list[PreferencePair] = []
    ties = failed = identical = empty = 0
    for label in labels:
        a, b = completions[label.a_id], completions[label.b_id]
        if label.probability is None or label.margin is None:
            failed += 1
        elif label.outcome == "tie":
            ties += 1
        elif a.text == b.text:
            identical += 1
        elif not (a.text.strip() and b.text.strip()):
            empty += 1
        else:
            pairs.append(_pair(label, prompts[label.prompt_id], (a, b), constitution_hash))
    return Dataset(pairs, ties, failed, identical, empty)


def _pair(
    label: Label, prompt: Prompt, replies: tuple[Completion, Completion], constitution_hash: str
) -> PreferencePair:
    assert label.probability is not None and label.margin is not None
    chosen, rejected = replies if label.outcome == "a" else replies[::-1]
    return PreferencePair(
        prompt=prompt.messages,
        chosen=(Message(role="assistant", content=chosen.text),),
        rejected=(Message(role="assistant", content=rejected.text),),
        probability=label.probability if label.outcome == "a" else 1.0 - label.probability,
        margin=abs(label.margin),
        prompt_id=prompt.id,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        chosen_finish_reason=chosen.finish_reason,
        rejected_finish_reason=rejected.finish_reason,
        verdict_keys=label.verdict_keys,
        constitution_hash=constitution_hash,
    )


def write_slow_labels(path: Path, labels: Sequence[Label]) -> None:
    """Write every label as Parquet, ties and failures too."""
    rows = []
    for label in labels:
        views = [{"principle": name, "log_odds": value} for name, value in label.by_principle.items()]
        rows.append(label.model_dump(mode="json") | {"by_principle": views})
    _write(path, rows, LABEL_COLUMNS)


def _write(path: Path, rows: list[dict[str, object]], columns: pa.Schema) -> None:
    write_table(path, pa.Table.from_pylist(rows, schema=columns))
