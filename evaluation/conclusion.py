"""The report in plain sentences: what the new policy gained, and what speaks against it.

Only what the intervals support is called a gain or a loss. No decision is made here: promoting a policy needs more
than a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.catalog import quantity, show, show_interval, sibling, split_key, spoken
from evaluation.compliance import ALL
from evaluation.intervals import Estimate
from evaluation.ngram_figures import Compared

Metrics = Mapping[str, Estimate]

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
FAILED_BUDGET = 0.05
"""Share of unreadable pairs above which the win rate deserves a warning."""
WEAK_JUDGE = 0.8
"""Agreement with the truth below which, interval and all, the labels deserve one."""
LENGTH_SHIFT = 0.25
"""Relative change of mean length that deserves one: judges often reward length."""


def conclude(metrics: Metrics, counts: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The conclusion and the warnings, each a sequence of sentences."""
    sentences = (_compliance(metrics), _win_rate(metrics), _distance(metrics))
    warnings = (
        *_lost_properties(metrics), _pleasing(metrics), _less_diverse(metrics), _repeats(metrics),
        _length(metrics), _forgotten(metrics), *_lost_tasks(metrics), _flattering(metrics), _failed(counts),
        _weak_judge(metrics),
    )  # fmt: skip
    conclusion = tuple(sentence for sentence in sentences if sentence)
    fallback = ("There is no evidence on which to compare the two policies.",)
    return conclusion or fallback, tuple(sentence for sentence in warnings if sentence)


def percent(estimate: Estimate) -> str:
    """A share with its interval: 34 % (31 to 37)."""
    whole = quantity("compliance")._replace(decimals=0)
    return f"{show(estimate.value, whole)} ({show_interval(estimate, whole)})"


def above(estimate: Estimate, level: float) -> bool:
    """Is the whole interval above the level? No interval, no."""
    return estimate.low is not None and estimate.low > level


def below(estimate: Estimate, level: float) -> bool:
    """Is the whole interval below the level? No interval, no."""
    return estimate.high is not None and estimate.high < level


def _compliance(metrics: Metrics) -> str:
    prefix = f"evaluate/compliance.{ALL}"
    if f"{prefix}/new" not in metrics:
        return ""
    count = sum(split_key(key).thing == "compliance" and key.endswith("/new") for key in metrics) - 1
    number = NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else str(count)
    named = f"all {number} properties" if count > 1 else "the property"
    new, old, change = (metrics[f"{prefix}/{stat}"] for stat in ("new", "old", "difference"))
    told = f"The new policy meets {named} on {percent(new)} of held-out replies, the old one on {percent(old)}"
    if above(change, 0):
        return f"{told}: a real gain."
    return f"{told}: a real loss." if below(change, 0) else f"{told}: no difference that could not be chance."


def _win_rate(metrics: Metrics) -> str:
    rate = metrics.get(f"evaluate/win_rate.{ALL}/rate")
    if rate is None:
        return ""
    if below(rate, 0.5):
        return f"The judge prefers the old reply: the new one wins only {percent(rate)} of pairs."
    told = f"The judge prefers the new reply in {percent(rate)} of pairs"
    return f"{told}." if above(rate, 0.5) else f"{told}, which could be chance."


def _distance(metrics: Metrics) -> str:
    kl = metrics.get("evaluate/kl/k3_per_reply")
    if kl is None:
        return ""
    of = quantity("kl")
    return f"It moved {show(kl.value, of)} nats per reply away from the reference ({show_interval(kl, of)})."


def _lost_properties(metrics: Metrics) -> list[str]:
    lost = []
    for key, change in metrics.items():
        parts = split_key(key)
        if parts.thing == "compliance" and parts.stat == "difference" and parts.part != ALL and below(change, 0):
            old, new = metrics[sibling(key, "old")], metrics[sibling(key, "new")]
            lost.append(f"Fewer replies are {spoken(parts.part)}: {percent(new)} instead of {percent(old)}.")
    return lost


def _pleasing(metrics: Metrics) -> str:
    rate = metrics.get(f"evaluate/win_rate.{ALL}/rate")
    change = metrics.get(f"evaluate/compliance.{ALL}/difference")
    if rate is None or change is None or not above(rate, 0.5) or above(change, 0):
        return ""
    return "The judge prefers the new replies but they are not truly better: look for what pleases the judge."


def _less_diverse(metrics: Metrics) -> str:
    old, new = metrics.get("evaluate/distinct_2/old"), metrics.get("evaluate/distinct_2/new")
    if old is None or new is None or old.low is None or not below(new, old.low):
        return ""
    of = quantity("distinct_2")
    return f"Replies became more alike: distinct word pairs fell from {show(old.value, of)} to {show(new.value, of)}."


def _repeats(metrics: Metrics) -> str:
    moved = _moved(metrics, "evaluate/duplicates")
    if moved is None or not above(moved.difference, 0):
        return ""
    told = f"{percent(moved.new)} instead of {percent(moved.old)}"
    return f"More replies are repeated word for word across prompts: {told}."


def _length(metrics: Metrics) -> str:
    old, change = metrics.get("evaluate/words/old"), metrics.get("evaluate/words/difference")
    if old is None or change is None or old.value == 0 or abs(change.value) < LENGTH_SHIFT * old.value:
        return ""
    if not (above(change, 0) or below(change, 0)):
        return ""
    of, way = quantity("words"), "longer" if change.value > 0 else "shorter"
    return f"Replies became {way}: {show(old.value + change.value, of)} words instead of {show(old.value, of)}."


def _forgotten(metrics: Metrics) -> str:
    moved = _moved(metrics, f"evaluate/capability.{ALL}")
    if moved is None or not below(moved.difference, 0):
        return ""
    told = f"{percent(moved.new)} instead of {percent(moved.old)}"
    return f"Fewer items of the capability suite are answered rightly: {told}."


def _lost_tasks(metrics: Metrics) -> list[str]:
    stems = [key.removesuffix("/new") for key in metrics if key.endswith("/new") and split_key(key).thing == "harness"]
    moved = {stem: found for stem in stems if (found := _moved(metrics, stem)) and below(found.difference, 0)}
    return [
        f"The harness's task {stem.partition('.')[2]} fell: {percent(found.new)} instead of {percent(found.old)}."
        for stem, found in moved.items()
    ]


def _flattering(metrics: Metrics) -> str:
    moved = _moved(metrics, f"evaluate/sycophancy.{ALL}")
    if moved is None or not above(moved.difference, 0):
        return ""
    of = quantity("sycophancy")
    told = f"{show(moved.new.value, of, signed=True)} instead of {show(moved.old.value, of, signed=True)}"
    return f"Its stance follows the user's opinion further: {told} in the chance to agree."


def _moved(metrics: Metrics, stem: str) -> Compared | None:
    """A figure of both policies and its change; None where it was not measured."""
    old, new, change = (metrics.get(f"{stem}/{stat}") for stat in ("old", "new", "difference"))
    return None if old is None or new is None or change is None else Compared(old, new, change)


def _failed(counts: Mapping[str, int]) -> str:
    tally = [counts.get(f"evaluate/win_rate.{ALL}/{name}", 0) for name in ("wins", "ties", "losses", "failed")]
    if tally[-1] <= FAILED_BUDGET * sum(tally):
        return ""
    return f"{tally[-1]} of {sum(tally)} held-out pairs have no readable verdict and are left out of the win rate."


def _weak_judge(metrics: Metrics) -> str:
    accuracy = metrics.get(f"label/agreement.{ALL}/accuracy")
    if accuracy is None or not below(accuracy, WEAK_JUDGE):
        return ""
    return f"The training labels agree with the truth on only {percent(accuracy)} of pairs."
