"""Has the policy drifted? KL, wording and form of its replies against the parent and against the frozen first policy.

A figure is held against repeated samples of one policy (A/A, `evaluation.aa_seeds`): t with m − 1 degrees of freedom,
Holm over the family, and a practical floor, since with many prompts any change is sure. Without such samples only KL
can be read, against the limit of `[gate]`. What A/A knows is the noise of sampling; it does not know how much two
trainings on the same data differ, which is more.

An alarm is no harm by itself: training is meant to change something. It says that something moved which the operator
may have thought was still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evaluation.catalog import quantity, show, title
from evaluation.drift_record import Reading, missing
from evaluation.drift_tests import Shifted, against_repeats, holm
from evaluation.intervals import Estimate
from evaluation.report import EvaluationReport

KL = "evaluate/kl/k3_per_reply"
FAMILIES: dict[str, tuple[str, ...]] = {
    "wording": ("distinct_2", "distinct_4", "entropy_1", "entropy_2", "compression", "self_repetition", "duplicates"),
    "spread": ("within_prompts", "across_prompts", "vendi"),
    "length": ("words", "truncated"),
}
FLOORS = {
    "distinct_2": 0.02, "distinct_4": 0.02, "entropy_1": 0.1, "entropy_2": 0.1, "compression": 0.1,
    "self_repetition": 0.02, "duplicates": 0.02, "within_prompts": 0.02, "across_prompts": 0.01, "vendi": 2.0,
    "words": 1.0, "truncated": 0.01,
}  # fmt: skip
"""Smallest change worth an alarm, in each figure's own unit."""


class Change(NamedTuple):
    """One figure against one reference."""

    thing: str
    found: Shifted
    reference: float
    now: float


def policy_readings(
    report: EvaluationReport, first: Mapping[str, Estimate] | None, alpha: float = 0.05, max_kl: float | None = None
) -> list[Reading]:
    """Readings of one round's report; `first` holds the first policy's figures by `evaluate/THING`."""
    found = [_kl(report, max_kl)]
    repeats = {key: each.values for key, each in report.repeated_samples.items()}
    if not repeats:
        why = "the policy was sampled once; set evaluation.aa_seeds = 5 to know how much figures vary by chance"
        return [*found, missing("policy", "wording", why)]
    for whose, reference in (("its parent", _parent(report)), ("the first policy", dict(first or {}))):
        if whose == "the first policy" and not reference:
            continue
        for family, things in FAMILIES.items():
            found.append(_family(family, whose, _changes(things, repeats, reference, alpha), alpha))
    return found


def _parent(report: EvaluationReport) -> dict[str, Estimate]:
    return {key.removesuffix("/old"): each for key, each in report.metrics.items() if key.endswith("/old")}


def _changes(
    things: Sequence[str], repeats: Mapping[str, Sequence[float]], reference: Mapping[str, Estimate], alpha: float
) -> list[Change]:
    known = [thing for thing in things if f"evaluate/{thing}" in reference and f"evaluate/{thing}/new" in repeats]
    found = []
    for thing in known:
        values, held = repeats[f"evaluate/{thing}/new"], reference[f"evaluate/{thing}"].value
        tested = against_repeats(values, held, alpha / max(1, len(known)))
        found.append(Change(thing, tested, held, held + tested.change))
    return found


def _family(family: str, whose: str, changes: Sequence[Change], alpha: float) -> Reading:
    name = f"{family} against {whose}"
    if not changes:
        return missing("policy", name, f"no figure of {family} was measured for both")
    rejected = holm([change.found.p_value for change in changes], alpha)
    moved = [
        change
        for sure, change in zip(rejected, changes, strict=True)
        if sure and abs(change.found.change) >= FLOORS[change.thing]
    ]
    worst = min(changes, key=lambda change: change.found.p_value)
    told = ", ".join(map(_told, moved)) if moved else f"nothing moved beyond chance and floor; most: {_told(worst)}"
    shown = moved[0] if moved else worst
    return Reading(
        part="policy", name=name, state="drift" if moved else "steady", text=f"{family.capitalize()} against {whose}: "
        f"{told}.", value=shown.found.change, p_value=shown.found.p_value, limit=FLOORS[shown.thing],
        false_alarms=alpha,
        false_alarms_from=f"Student's t and Holm over {len(changes)} figures; measured in docs/validation_drift.md",
        detectable=max(shown.found.detectable, FLOORS[shown.thing]),
    )  # fmt: skip


def _told(change: Change) -> str:
    of, found = quantity(change.thing), change.found
    return (
        f"{title(change.thing)} {show(change.reference, of)} to {show(change.now, of)} "
        f"(t {found.t:+.1f}, p {found.p_value:.4f}, seeds differ by {show(found.spread, of)})"
    )


def _kl(report: EvaluationReport, most: float | None) -> Reading:
    found = report.metrics.get(KL)
    if found is None:
        return missing("policy", "KL to the reference", report.missing.get("kl", "the report does not have it"))
    floor = report.repeated_scores
    drifted = most is not None and found.low is not None and found.low > most
    told = f", scoring the same policy twice gives {floor:.1e}" if floor is not None else ""
    limit = f", at most {most:g} are allowed" if most is not None else ""
    text = f"KL to the reference: {found.value:.2f} nats per reply ({found.low} to {found.high}){limit}{told}."
    if found.low is not None and found.high is not None:
        text = text.replace(f"{found.low} to {found.high}", f"{found.low:.2f} to {found.high:.2f}")
    return Reading(
        part="policy", name="KL to the reference", state="drift" if drifted else "steady", text=text, value=found.value,
        low=found.low, high=found.high, n=found.n, limit=most, false_alarms=(1 - found.confidence) / 2,
        false_alarms_from="lower end of the interval over prompts, nominal", detectable=floor or None,
    )  # fmt: skip
