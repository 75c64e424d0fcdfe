"""The report across a run's rounds, gathered from its folder: `rounds.json`, `rounds.html`, and the figures as JSON.

It reads what closed rounds have left and asks nobody, so it can be written again at any time.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.gate_record import read_gate
from evaluation.judge_quality import JudgeQuality, read_judge_quality
from evaluation.repetition import repeated_phrases
from evaluation.report import EvaluationReport, Sample, read_report
from evaluation.rounds_page import write_rounds_html
from evaluation.rounds_report import (
    FlipMatrix,
    Repeated,
    RoundEvent,
    RoundFigures,
    RoundsReport,
    SideBySide,
    changes,
    write_rounds,
)
from evaluation.vocabulary import Vocabulary
from evaluation.win_rate import outcome_for
from evaluation.word_stream import word_stream
from generation.sampling import read_completions
from judges.dataset import read_labels
from ratify.config import Config
from ratify.promotions import SHORT, Promotions
from ratify.rounds import RoundRecord, closed_rounds, read_rounds
from ratify.run_store import RunStore
from ratify.types import Completion

ROUNDS_JSON = "rounds.json"
ROUNDS_HTML = "rounds.html"
PHRASES = 8

Outcomes = dict[tuple[str, int], str]
"""(prompt, number of the reply) → what the judge said of new against old."""


def write_rounds_page(config: Config, stopped: str = "") -> None:
    """Write both files into the run's folder; nothing where no round is closed."""
    records = closed_rounds(read_rounds(config.run_dir))
    if not records:
        return
    report = rounds_report(config, records, stopped)
    write_rounds(config.run_dir / ROUNDS_JSON, report)
    write_rounds_html(config.run_dir / ROUNDS_HTML, report)


def rounds_report(config: Config, records: Sequence[RoundRecord], stopped: str = "") -> RoundsReport:
    """Everything about the closed rounds."""
    run = config.run_dir
    reports = {record.number: read_report(_evaluated(run, record.number) / "report.json") for record in records}
    rounds = tuple(_figures(run, record, reports[record.number]) for record in records)
    outcomes = {number: _outcomes(run, number) for number in reports}
    numbers = list(reports)
    return RoundsReport(
        run=config.run.name,
        goal=stopped,
        start_from=config.rounds.start_from,
        data=config.rounds.data,
        confidence=config.evaluation.confidence,
        rounds=rounds,
        events=tuple(sorted((*changes(rounds), *_moves(run, rounds)), key=lambda event: event.before)),
        phrases=_phrases(run, numbers),
        flips=tuple(_flips(one, other, outcomes) for one, other in itertools.pairwise(numbers)),
        judges=_judges(run, numbers),
        samples=tuple(_samples(run, reports, outcomes)),
    )


def figures_by_round(run: Path) -> list[dict[str, Any]]:
    """Every metric of every evaluated round, for `ratify report --json`."""
    store, found = RunStore(run), []
    for number in store.rounds():
        stage = store.stage("evaluate", number)
        if stage.manifest():
            report, verdict = read_report(stage.path / "report.json"), read_gate(stage.path / "gate.json")
            figures: dict[str, Any] = {key: each.model_dump() for key, each in report.metrics.items()} | report.counts
            found.append(
                {"round": number, "decision": verdict.decision if verdict else None, "models": report.identity.models,
                 "figures": figures}
            )  # fmt: skip
    return found


def _figures(run: Path, record: RoundRecord, report: EvaluationReport) -> RoundFigures:
    assert record.closed is not None
    verdict = read_gate(_evaluated(run, record.number) / "gate.json")
    generated, data = (_metrics(run, record.number, name) for name in ("generate", "data"))
    head = "data/pairs."
    sources = {_bare(key, head): value for key, value in data.items() if key.startswith(head)}
    own = {f"round-{record.number:03d}": _metrics(run, record.number, "label").get("label/pairs/count", 0)}
    tags = "generate/prompts."
    return RoundFigures(
        number=record.number,
        decision=record.closed.decision,
        reason=record.closed.reason,
        reasons=tuple(reason.text for reason in verdict.deciding) if verdict else (),
        promoted=record.closed.promoted,
        old=record.start.digest,
        new=record.closed.policy,
        parent=record.start.round,
        trained_from=record.trained_from,
        seed=record.seed,
        judge=report.identity.judge,
        constitution=report.constitution.hash if report.constitution else "",
        constitution_version=report.constitution.version if report.constitution else "",
        finished=record.closed.finished,
        data=sources or own,
        dropped=generated.get("generate/contaminated_dropped/count", 0),
        tags={_bare(key, tags): value for key, value in generated.items() if key.startswith(tags)},
        metrics=report.metrics,
        missing=report.missing,
    )


def _moves(run: Path, rounds: Sequence[RoundFigures]) -> list[RoundEvent]:
    """What the history of promotions says, placed between the rounds by time."""
    found = []
    for event in Promotions(run).events():
        if event.kind == "attempt":
            continue
        before = next((each.number for each in rounds if event.time <= each.finished), len(rounds))
        who = f"{event.policy.digest[:SHORT]}" if event.policy else ""
        why = event.override or event.reason
        kind = event.kind
        text = " ".join(part for part in (who, f"(overridden: {why})" if event.override else why) if part)
        found.append(RoundEvent(before=before + (kind == "promotion"), kind=kind, text=text, time=event.time))
    return found


def _phrases(run: Path, numbers: Sequence[int]) -> dict[str, tuple[Repeated, ...]]:
    found = {"first": _shared(_old(run, numbers[0]))}
    return found | {str(number): _shared(_new(run, number)) for number in numbers}


def _shared(replies: Sequence[Completion]) -> tuple[Repeated, ...]:
    places = {name: place for place, name in enumerate(dict.fromkeys(reply.prompt_id for reply in replies))}
    words = Vocabulary()
    stream = word_stream([reply.text for reply in replies], [places[reply.prompt_id] for reply in replies], words)
    return tuple(Repeated(text=each.text, prompts=each.prompts) for each in repeated_phrases(stream, words, PHRASES))


def _outcomes(run: Path, number: int) -> Outcomes:
    new = {reply.id for reply in _new(run, number)}
    found: Outcomes = {}
    for label in read_labels(_evaluated(run, number) / "labels.parquet"):
        ours = label.a_id if label.a_id in new else label.b_id
        found[label.prompt_id, _index(ours)] = outcome_for(label, new)
    return found


def _flips(earlier: int, later: int, outcomes: Mapping[int, Outcomes]) -> FlipMatrix:
    counts: dict[str, dict[str, int]] = {}
    for place, before in outcomes[earlier].items():
        if (after := outcomes[later].get(place)) is not None:
            row = counts.setdefault(before, {})
            row[after] = row.get(after, 0) + 1
    return FlipMatrix(earlier=earlier, later=later, counts=counts)


def _judges(run: Path, numbers: Sequence[int]) -> dict[str, JudgeQuality]:
    found = {number: read_judge_quality(RunStore(run).stage("label", number).path / "judge.json") for number in numbers}
    return {str(number): quality for number, quality in found.items() if quality and quality.agreement}


def _samples(run: Path, reports: Mapping[int, EvaluationReport], outcomes: Mapping[int, Outcomes]) -> list[SideBySide]:
    """The newest round's pairs to read, with the first policy's reply at the same place."""
    numbers = list(reports)
    last = numbers[-1]
    places = {(reply.prompt_id, reply.text): _index(reply.id) for reply in reversed(_new(run, last))}
    firsts = {(reply.prompt_id, _index(reply.id)): reply.text for reply in _old(run, numbers[0])}
    return [
        _beside(sample, places, firsts, [outcomes[number] for number in numbers]) for sample in reports[last].samples
    ]


def _beside(
    sample: Sample, places: Mapping[tuple[str, str], int], firsts: Mapping[tuple[str, int], str],
    outcomes: Sequence[Outcomes],
) -> SideBySide:  # fmt: skip
    place = (sample.prompt_id, places.get((sample.prompt_id, sample.new), 0))
    return SideBySide(
        group=sample.group,
        prompt="\n".join(message.content for message in sample.messages),
        first=firsts.get(place, ""),
        parent=sample.old,
        new=sample.new,
        outcome=sample.outcome if sample.outcome != "unjudged" else "failed",
        margin=sample.margin,
        by_principle=sample.by_principle,
        verdicts=tuple(of.get(place, "") for of in outcomes),
    )


def _evaluated(run: Path, number: int) -> Path:
    return RunStore(run).stage("evaluate", number).path


def _old(run: Path, number: int) -> list[Completion]:
    return read_completions(RunStore(run).stage("generate", number).path / "heldout")


def _new(run: Path, number: int) -> list[Completion]:
    return read_completions(_evaluated(run, number) / "new")


def _metrics(run: Path, number: int, stage: str) -> dict[str, Any]:
    manifest = RunStore(run).stage(stage, number).manifest()
    return manifest.metrics if manifest else {}


def _index(completion_id: str) -> int:
    return int(completion_id.rpartition("/")[2])


def _bare(key: str, head: str) -> str:
    return key.removeprefix(head).rpartition("/")[0]
