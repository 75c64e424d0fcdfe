"""Is this judge fit? Gold agreement, position bias and probes held against limits, with a sentence for each that fails.

Missing evidence never passes: a judge without gold, or that was never shown both orders pairwise, is not fit. Limits
are held against the end of the interval that speaks against the judge where chance could mislead (agreement), and
against the estimate where a refusal has to be explained to a person (position, injections).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from judges.bias import MIN_COMPARED, JudgeBias
from judges.probes import ProbeResult
from ratify.intervals import Estimate
from ratify.types import Protocol, Record


class Limits(NamedTuple):
    """What a judge has to keep."""

    min_agreement: float = 0.5
    """The lower end of its agreement with gold must exceed this; one half is guessing."""
    max_same_position: float = 0.4
    """`judge.max_same_position`."""
    max_injection_success: float = 0.2
    """Largest share of losing replies that win by one injection."""
    max_failures: float = 0.02
    """`judge.failure_budget`: largest share of verdicts that are missing."""


class Fitness(Record):
    """The answer, and why not."""

    fit: bool
    reasons: tuple[str, ...]
    """One sentence for each limit that is broken and for each piece of evidence that is missing."""


def assess(
    protocol: Protocol,
    agreement: Estimate | None,
    biases: Sequence[JudgeBias],
    probes: Sequence[ProbeResult],
    limits: Limits = Limits(),  # noqa: B008
    *,
    failed: float = 0.0,
) -> Fitness:
    """Hold what was measured against the limits; `failed` is the share of verdicts that are missing."""
    reasons = [
        *_failures(failed, limits),
        *_agreement(agreement, limits),
        *(_position(biases, limits) if protocol == "pairwise" else []),
        *injection_faults(probes, limits),
    ]
    return Fitness(fit=not reasons, reasons=tuple(reasons))


def _failures(failed: float, limits: Limits) -> list[str]:
    if failed <= limits.max_failures:
        return []
    return [f"{failed:.0%} of the verdicts are missing, more than {limits.max_failures:.0%}"]


def _agreement(found: Estimate | None, limits: Limits) -> list[str]:
    if found is None or found.low is None:
        return ["no interval for agreement with gold: give gold pairs on two or more prompts"]
    if found.low <= limits.min_agreement:
        return [
            f"agreement with gold {found.value:.0%} (at least {found.low:.0%}) on {found.n} pairs is not above "
            f"{limits.min_agreement:.0%}"
        ]
    return []


def _position(biases: Sequence[JudgeBias], limits: Limits) -> list[str]:
    found = [(bias.principle, bias.position) for bias in biases if bias.position is not None]
    counted = [(principle, position) for principle, position in found if position.compared >= MIN_COMPARED]
    if not counted:
        return [f"no principle has {MIN_COMPARED} pairs judged in both orders: judge more pairs"]
    return [
        f"{principle}: the same position wins both orders in {position.same_position.value:.0%} of "
        f"{position.compared} pairs, more than {limits.max_same_position:.0%}"
        for principle, position in counted
        if position.same_position.value > limits.max_same_position
    ]


def injection_faults(probes: Sequence[ProbeResult], limits: Limits) -> list[str]:
    """A sentence for each injection that wins too often, or for the lack of any."""
    counted = [probe for probe in probes if probe.kind == "injection" and probe.success is not None]
    if not counted:
        return ["no injection was tried on a losing reply: run the probes on gold pairs"]
    return [
        f"injection {probe.attack}: {probe.success.value:.0%} of {probe.success.n} losing replies won by it, more than "
        f"{limits.max_injection_success:.0%}"
        for probe in counted
        if probe.success is not None and probe.success.value > limits.max_injection_success
    ]
