"""What an edit will cost and change, before it is paid for: calls, tokens, minutes, money, and a sampled flip rate.

Calls are counted, not estimated: they are the questions that the verdict store has no answer to. Time and tokens come
from what the run's own stages needed per call. The sample is stratified by tag and drawn from the run's pairs, so its
interval is about these pairs; its verdicts are stored, and `apply` does not ask for them again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from constitutions.diff import diff_constitutions
from constitutions.schema import Constitution
from flows.stages.panel_judging import check_panel
from flows.stages.rates import Rate, observed_rates
from flows.stages.relabel import Bench, Held, counts, strata_of
from flows.stages.relabel_report import flip_rate
from judges import flips
from judges.aggregate import FAILED
from judges.statistics import LabellingStatistics
from ratify.sections import PriceSection


def difference(old: Constitution, new: Constitution) -> dict[str, Any]:
    """What was edited and which version that needs; costs nothing and needs no run."""
    diff = diff_constitutions(old, new)
    return {
        "old": {"id": old.id, "version": old.version},
        "new": {"id": new.id, "version": new.version},
        "edits": [
            {"principle": each.principle, "field": each.field, "kind": each.kind, "class": str(each.field_class),
             "cost": each.cost}
            for each in diff.changes
        ],
        "bump": diff.bump.name.lower(),
        "version_fault": diff.version_fault,
        "rejudged": list(diff.rejudged),
        "rescoped": list(diff.rescoped),
    }  # fmt: skip


def make_plan(bench: Bench, old: Held, new: Held, *, sample: int, price: PriceSection | None) -> dict[str, Any]:
    """The plan as JSON; asks the judge about `sample` pairs, and about none when it is 0."""
    missing = bench.missing(new.constitution)
    by_principle = counts(missing)
    calls = by_principle.total()
    asked = LabellingStatistics()
    if not calls:
        rate = {**_rate_on(bench, old, new, np.arange(len(bench.pairs))), "exact": True}
    elif sample:
        check_panel(bench.context)
        rows = flips.stratified_sample(strata_of(bench), sample, bench.context.config.run.seed)
        chosen = np.isin(np.arange(len(bench.pairs)), rows)
        asked = bench.ask_missing(new.constitution, chosen)
        rate = {**_rate_on(bench, old, new, rows), "exact": len(rows) == len(bench.pairs)}
    else:
        rate = {}
    return {
        **difference(old.constitution, new.constitution),
        "run": str(bench.context.run.path),
        "pairs": len(bench.pairs),
        "calls": calls,
        "calls_by_principle": dict(by_principle),
        "decided_by_checks": _decided(bench, new.constitution),
        "asked_for_sample": asked.calls,
        **_cost(calls - asked.calls, observed_rate(bench, asked), price),
        "flip_rate": rate,
    }


def _decided(bench: Bench, constitution: Constitution) -> dict[str, int]:
    """Pairs that a principle's checks decide, so that no judge is asked, where there are any."""
    counted = bench.evidence(constitution).by_checks.sum(axis=0)
    return {each.id: int(count) for each, count in zip(constitution.active, counted, strict=True) if count}


def observed_rate(bench: Bench, asked: LabellingStatistics) -> Rate | None:
    """Speed and tokens per call from the newest stage that asked the judge, else from the sample just asked."""
    found = observed_rates(bench.context.run)
    if found:
        return found[-1]
    if asked.calls and asked.calls_per_s:
        tokens = asked.prompt_tokens / asked.calls, asked.completion_tokens / asked.calls
        return Rate(asked.calls_per_s, *tokens, "the sample")
    return None


def _cost(calls: int, rate: Rate | None, price: PriceSection | None) -> dict[str, Any]:
    if rate is None:
        return {"left": calls, "tokens": None, "minutes": None, "money": None, "currency": None, "observed": None}
    prompt, completion = calls * rate.prompt_tokens, calls * rate.completion_tokens
    minutes = calls / rate.calls_per_s / 60
    return {
        "left": calls,
        "tokens": {"prompt": round(prompt), "completion": round(completion)},
        "minutes": minutes,
        "money": price.cost(prompt, completion) if price else None,
        "currency": price.currency if price else None,
        "observed": rate._asdict(),
    }


def _rate_on(bench: Bench, old: Held, new: Held, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Share of outcomes that change among pairs that had a label."""
    made = [bench.aggregate(held.constitution, bench.evidence(held.constitution).rows(rows)) for held in (old, new)]
    labelled = made[0].outcome != FAILED
    return {**flip_rate(flips.changes(*made)[labelled]), "without_label": int((~labelled).sum())}
