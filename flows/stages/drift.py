"""A run's drift check: judge, prompts, reward model and policy of its newest evaluated round.

Only the judge costs calls; the rest reads what the run has. The result is kept as `drift/report.json`, and what the
judge said as a line of `drift/judge.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from evaluation.drift_record import DriftReport, Part, Reading, missing
from evaluation.intervals import Resampling
from evaluation.policy_drift import policy_readings
from evaluation.prompt_drift import prompt_readings
from evaluation.report import EvaluationReport, read_report
from evaluation.reward_drift import reward_readings
from evaluation.reward_quality import fresh_pairs
from flows.context import RunContext
from flows.stages import generate
from flows.stages.drift_history import FOLDER, REPORT, reference_prompts, text_of
from flows.stages.drift_judge import SLICE_PAIRS, all_readings, check_judges
from flows.stages.gate import run_config
from flows.stages.label import LABELS
from judges.dataset import read_labels
from ratify.errors import ConfigError, StoreError
from ratify.files import write_text
from ratify.lineage import now
from ratify.promotions import Promotions
from ratify.prompts import load_prompts
from ratify.run_store import RunStore

PARTS: tuple[Part, ...] = ("judge", "prompts", "reward_model", "policy")
VALIDATION = "reward_model/validation_accuracy/value"


def check_drift(
    run: Path, parts: Sequence[Part] = PARTS, *, ask: bool = True, size: int = SLICE_PAIRS, alpha: float = 0.05,
    prompts: Path | None = None,
) -> DriftReport:  # fmt: skip
    """Look for drift and keep the report. With `ask` the judges are asked about gold; else their history is read.

    Raises:
        StoreError: the run was never run with this version, or is in use.
    """
    with RunStore(run).lock():
        context = _context(run)
        readings: list[Reading] = []
        for part in parts:
            readings += _part(part, context, ask=ask, size=size, alpha=alpha, prompts=prompts)
        report = DriftReport(
            run=context.config.run.name, round=context.round_number, time=now(), alpha=alpha, readings=tuple(readings)
        )
        write_text(run / FOLDER / REPORT, report.model_dump_json(indent=2) + "\n")
        return report


def _context(run: Path) -> RunContext:
    config, store = run_config(run), RunStore(run)
    done = [number for number in store.rounds() if store.stage("evaluate", number).manifest()]
    newest = done[-1] if done else max(store.rounds(), default=0)
    return RunContext(
        config.model_copy(update={"run": config.run.model_copy(update={"dir": run.parent, "name": run.name})}), newest
    )


def _part(
    part: Part, context: RunContext, *, ask: bool, size: int, alpha: float, prompts: Path | None
) -> list[Reading]:
    if part == "judge":
        return _judge(context, ask=ask, size=size, alpha=alpha)
    if part == "prompts":
        return _prompts(context, alpha, prompts)
    report = _report(context)
    if report is None:
        return [missing(part, part.replace("_", " "), "no round of this run has a finished evaluation")]
    if part == "reward_model":
        return _reward(context, report, alpha)
    first = Promotions(context.config.run_dir).first()
    frozen = first.first if first and context.round_number else None
    return policy_readings(report, frozen, alpha, context.config.gate.max_kl)


def _judge(context: RunContext, *, ask: bool, size: int, alpha: float) -> list[Reading]:
    if context.config.gold.path is None:
        why = "the configuration names no gold, so the judge cannot be asked again: set gold.path to a file"
        return [missing("judge", "agreement with gold", why)]
    if ask:
        check_judges(context, size=size)
    return all_readings(context, alpha)


def _prompts(context: RunContext, alpha: float, path: Path | None) -> list[Reading]:
    try:
        current = load_prompts(path, None, 0) if path else generate.training_prompts(context)
    except ConfigError as error:
        return [missing("prompts", "words and lengths", str(error))]
    return prompt_readings(reference_prompts(context), [text_of(prompt) for prompt in current], alpha)


def _report(context: RunContext) -> EvaluationReport | None:
    stage = context.stage("evaluate")
    return read_report(stage.path / "report.json") if stage.manifest() else None


def _reward(context: RunContext, report: EvaluationReport, alpha: float) -> list[Reading]:
    folder = context.stage("evaluate").path
    labels, rewards = read_labels(folder / LABELS), _rewards(folder / "scoring" / "scores.jsonl")
    if not rewards:
        return [missing("reward_model", "accuracy", "this run trains no reward model")]
    settings = context.config.evaluation
    how = Resampling(settings.confidence, settings.bootstrap_draws, context.config.run.seed)
    return reward_readings(fresh_pairs(labels, rewards), report.metrics.get(VALIDATION), how, alpha)


def _rewards(path: Path) -> dict[str, float]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["id"]: float(row["reward"]["reward"]) for row in rows if row.get("reward")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not of this version; run the evaluation again") from error
