"""Gold pairs among the questions of the label stage, what they say of the judge, and what is learnt from them.

A canary is asked by the same judge, in the same pass, as the pairs beside it. Files in the stage's folder:
`judge.json` and `judge.html` (agreement, biases, calibration), and, when `gold.calibrate` says so, `calibrator.json`
and `reliability.svg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from constitutions.load import load_constitution
from constitutions.schema import Constitution
from evaluation.charts import reliability_svg
from evaluation.judge_quality import BiasRow, CalibrationRow, JudgeQuality, ReliabilityPoint, ReliabilityRow
from evaluation.judge_view import write_judge_page
from flows.context import RunContext
from judges.aggregate import Outcomes
from judges.assignment import cover
from judges.bias import JudgeBias
from judges.calibration import Calibrator
from judges.gold import Gold, GoldAgreement, gold_agreement, load_gold
from judges.gold_calibration import CalibratorSet, calibrated, fit_on_gold, read_calibrators, write_calibrators
from judges.labels import label_pairs, labels_of
from judges.questions import Judge, Question, Questionnaire, write_questions
from judges.reliability import Reliability
from ratify.canonical import file_digest
from ratify.errors import BudgetError, InputError
from ratify.files import write_text
from ratify.intervals import Resampling
from ratify.types import Failure, Verdict

QUALITY = "judge.json"
CALIBRATOR = "calibrator.json"
DIAGRAM = "reliability.svg"
PAGE = "judge.html"


class Canaries(NamedTuple):
    """Gold pairs that are judged with the others."""

    gold: Gold
    sheet: Questionnaire
    decided: Outcomes | None = None
    """What checks decided, so that nobody is asked."""


class Findings(NamedTuple):
    """What canaries have shown."""

    agreement: GoldAgreement
    calibrators: CalibratorSet | None


def gold_lineage(context: RunContext) -> dict[str, Any]:
    """What labels depend on through gold; empty when no gold pair is judged."""
    settings = context.config.gold
    if settings.calibrator is not None:
        return {"calibrator": read_calibrators(settings.calibrator).hash}
    if settings.path is None or not settings.canaries:
        return {}
    gold = {**settings.model_dump(mode="json", exclude={"path"}), "file": file_digest(settings.path)}
    return {"gold": gold}


def write_canaries(context: RunContext, constitution: Constitution, judge: Judge) -> Canaries | None:
    """Draw the gold pairs of this round; None without any."""
    settings, seed = context.config.gold, context.config.run.seed
    if settings.path is None or not settings.canaries:
        return None
    gold = load_gold(settings.path).drawn(settings.canaries, seed)
    coverage = cover(gold.prompts, gold.pairs, constitution.active, judge)
    sheet = write_questions(gold.prompts, gold.pairs, constitution.active, judge, coverage.open)
    return Canaries(gold, sheet, coverage.decided)


def mixed(questions: Iterable[Question], total: int, canaries: Canaries | None) -> Iterator[Question]:
    """The questions, of which there are about `total`, with those of the canaries spread evenly among them."""
    among = list(canaries.sheet.questions.values()) if canaries else []
    number = 0
    for asked, question in enumerate(questions):
        while number < len(among) and (number + 0.5) / len(among) < (asked + 0.5) / total:
            yield among[number]
            number += 1
        yield question
    yield from among[number:]


def examine_canaries(
    context: RunContext,
    canaries: Canaries,
    constitution: Constitution,
    judge: Judge,
    *,
    verdicts: Mapping[str, Verdict],
    failures: Mapping[str, Failure],
) -> Findings:
    """Hold the canaries against gold and learn from them what verdicts are worth; verdicts and failures by key.

    Raises:
        BudgetError: the judge agrees with fewer of them than `gold.min_agreement`.
        EvidenceError: too few of them to calibrate with.
    """
    settings, gold = context.config.gold, canaries.gold
    labels = labels_of(
        label_pairs(canaries.sheet, verdicts, failures, constitution, judge.protocol, decided=canaries.decided)
    )
    agreement = gold_agreement(gold, labels, settings.human_ceiling, resampling(context))
    _require_agreement(agreement, settings.min_agreement)
    if settings.calibrate == "none":
        return Findings(agreement, None)
    calibrators = fit_on_gold(
        gold, canaries.sheet, verdicts, constitution,
        judge=judge.fingerprint, protocol=judge.protocol, method=settings.calibrate,
    )  # fmt: skip
    return Findings(agreement, calibrators)


def resampling(context: RunContext) -> Resampling:
    """How the run makes its intervals."""
    settings = context.config.evaluation
    return Resampling(settings.confidence, settings.bootstrap_draws, context.config.run.seed)


def calibrated_verdicts(
    context: RunContext, verdicts: Mapping[str, Verdict], findings: Findings | None, judge: Judge, *, watched: bool
) -> Mapping[str, Verdict]:
    """The verdicts that labels are made of: by the calibrators of these canaries, or by those found earlier.

    Raises:
        InputError: the calibrators found earlier belong to another judge.
    """
    earlier = context.config.gold.calibrator if watched else None
    known = read_calibrators(earlier) if earlier else findings.calibrators if findings else None
    if known is None:
        return verdicts
    if known.judge != judge.fingerprint:
        raise InputError(
            f"{earlier} belongs to the judge {known.judge[:12]}, and {judge.fingerprint[:12]} labels now; calibrate "
            "again: rounds.recalibrate_every = 1"
        )
    return calibrated(verdicts, known, load_constitution(context.config.constitution))


def write_findings(folder: Path, judge: Judge, biases: Sequence[JudgeBias], findings: Findings | None) -> None:
    """Write what is known about the judge into a stage's folder."""
    calibrators = findings.calibrators if findings else None
    quality = quality_of(judge, biases, findings)
    write_text(folder / QUALITY, quality.model_dump_json(indent=2) + "\n")
    write_judge_page(folder / PAGE, "The judge of these pairs", quality)
    if calibrators is not None:
        write_calibrators(folder / CALIBRATOR, calibrators)
        rows = [(row.name, row.before.points, row.after.points) for row in quality.calibration]
        write_text(folder / DIAGRAM, reliability_svg(rows))


def findings_metrics(findings: Findings | None) -> dict[str, Any]:
    """The figures by metric key."""
    if findings is None:
        return {}
    agreement, figures = findings.agreement, {"label/gold/pairs": findings.agreement.pairs}
    figures["label/gold/failed"] = agreement.failed
    named = {"label/gold/agreement": agreement.overall, "label/gold/of_ceiling": agreement.of_ceiling}
    named |= {f"label/gold/agreement/{name}": share for name, share in agreement.by_principle.items()}
    metrics: dict[str, Any] = dict(figures)
    for key, share in named.items():
        if share is not None:
            metrics |= {key: share.value, f"{key}/low": share.low, f"{key}/high": share.high}
    if findings.calibrators is not None:
        metrics["label/calibrator/hash"] = findings.calibrators.hash
        for each in findings.calibrators.fitted:
            metrics |= _calibrator_metrics(each)
    return metrics


def judge_summary(metrics: Mapping[str, Any]) -> str:
    """What the canaries said, for a stage's summary; empty without any."""
    share = metrics.get("label/gold/agreement")
    if share is None:
        return ""
    low, high = (metrics.get(f"label/gold/agreement/{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" ({low:.1%} to {high:.1%})"
    ceiling = metrics.get("label/gold/of_ceiling")
    people = "" if ceiling is None else f", {ceiling:.0%} of what people reach"
    return f"; the judge agrees with gold on {share:.1%}{interval} of {metrics['label/gold/pairs']:,} canaries{people}"


def _calibrator_metrics(calibrator: Calibrator) -> dict[str, float]:
    head = f"label/calibrator/{calibrator.principle or 'shared'}"
    figures = {f"{head}/gold": float(calibrator.gold)}
    if calibrator.calibration.method == "temperature":
        figures[f"{head}/temperature"] = calibrator.calibration.temperature
    for when, found in (("before", calibrator.before), ("after", calibrator.after)):
        named = {"nll": found.nll, "brier": found.brier, "ece": found.ece}
        figures |= {f"{head}/{name}_{when}": value for name, value in named.items()}
    return figures


def _require_agreement(agreement: GoldAgreement, least: float | None) -> None:
    if least is None:
        return
    found = agreement.overall
    if found is None or found.value < least:
        shown = "no label" if found is None else f"{found.value:.1%} of {found.n}"
        raise BudgetError(
            f"labelling stopped: the judge agrees with gold on {shown} canaries, and gold.min_agreement is "
            f"{least:.1%}; no label was written, the verdicts are stored: see `ratify judge check`, use another "
            "judge, or lower the limit"
        )


def quality_of(judge: Judge, biases: Sequence[JudgeBias], findings: Findings | None) -> JudgeQuality:
    """What is known about a judge, in the form of the report."""
    known: dict[str, Any] = {}
    if findings is not None:
        agreement = findings.agreement
        known = {
            "canaries": agreement.pairs, "canaries_failed": agreement.failed, "agreement": agreement.overall,
            "of_ceiling": agreement.of_ceiling, "by_principle": agreement.by_principle,
        }  # fmt: skip
        if findings.calibrators is not None:
            rows = tuple(_calibration_row(each) for each in findings.calibrators.fitted)
            known |= {"calibrator": findings.calibrators.hash, "calibration": rows}
    return JudgeQuality(
        judge=judge.fingerprint, protocol=judge.protocol, biases=tuple(_bias_row(bias) for bias in biases), **known
    )


def _bias_row(bias: JudgeBias) -> BiasRow:
    position = bias.position
    return BiasRow(
        principle=bias.principle, pairs=bias.compared, length=bias.length, format=bias.format, family=bias.family,
        same_position=position.same_position if position else None, order_gap=position.order_gap if position else None,
    )  # fmt: skip


def _calibration_row(calibrator: Calibrator) -> CalibrationRow:
    method = calibrator.calibration.method
    return CalibrationRow(
        name=calibrator.principle or "all other principles", method=method, gold=calibrator.gold,
        temperature=calibrator.calibration.temperature if method == "temperature" else None,
        before=_reliability(calibrator.before), after=_reliability(calibrator.after),
    )  # fmt: skip


def _reliability(found: Reliability) -> ReliabilityRow:
    points = tuple(ReliabilityPoint(**each.model_dump()) for each in found.bins)
    return ReliabilityRow(nll=found.nll, brier=found.brier, ece=found.ece, points=points)
