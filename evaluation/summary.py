"""Everything that one evaluation can say, computed from its evidence: metrics, counts, samples and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable

from evaluation.conclusion import conclude
from evaluation.diversity import most_repeated
from evaluation.families import FAMILIES, Figures, judged_sets
from evaluation.intervals import EvidenceError
from evaluation.judging import summarise_judging
from evaluation.repeats import floor_of_distance, floor_of_scores, repeated_figures
from evaluation.report import EvaluationReport, Evidence, Row
from evaluation.samples import pick_samples


def summarise(evidence: Evidence) -> EvaluationReport:
    """Compute the report.

    Raises:
        EvidenceError: when either policy has no reply at all or a completion id belongs to both.
    """
    _check(evidence)
    figures = Figures()
    figures.metrics.update(evidence.stage_metrics)
    for name, family in FAMILIES.items():
        figures.attempt(name, lambda family=family: family(figures, evidence))  # type: ignore[misc]
    conclusion, warnings = conclude(figures.metrics, figures.counts)
    return EvaluationReport(
        conclusion=conclusion,
        warnings=warnings,
        metrics=figures.metrics,
        missing=figures.missing,
        counts=figures.counts,
        repeated_samples=repeated_figures(evidence),
        repeated_scores=_floor(evidence),
        repeated_distance=floor_of_distance(evidence),
        identity=evidence.identity,
        constitution=evidence.constitution,
        judging={
            name: summarise_judging(judged.labels, judged.verdicts) for name, judged in judged_sets(evidence).items()
        },
        judges=dict(evidence.judges),
        repeated={"old": dict(most_repeated(evidence.old)), "new": dict(most_repeated(evidence.new))},
        curves={stage: numeric_rows(rows) for stage, rows in evidence.curves.items() if rows},
        stages=tuple(evidence.stages),
        samples=pick_samples(evidence),
    )


def numeric_rows(rows: Iterable[Row]) -> tuple[dict[str, float], ...]:
    """Rows of metrics.jsonl with their finite numbers only; rows without a `step` are numbered."""
    kept = []
    for number, row in enumerate(rows):
        numbers = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        kept.append({"step": float(number), **numbers})
    return tuple(kept)


def _floor(evidence: Evidence) -> float | None:
    """What two scorings of the new policy differ by; None where it was scored once."""
    return floor_of_scores({row.completion_id: row.log_new for row in evidence.scored}, evidence.scored_again)


def _check(evidence: Evidence) -> None:
    if not evidence.old or not evidence.new:
        raise EvidenceError(f"evaluation: {len(evidence.old)} old and {len(evidence.new)} new replies; both are needed")
    shared = {reply.id for reply in evidence.old} & {reply.id for reply in evidence.new}
    if shared:
        raise EvidenceError(f"evaluation: completion id {min(shared)} belongs to both policies; name them apart")
