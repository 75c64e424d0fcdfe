"""Judging with a panel: every judge of `[panel]` is asked in turn, and their verdicts are combined for each pair.

A judge is asked as if it were alone: its own server, price, failure budget, canaries and calibrator; its verdicts lie
in the run's store under its own fingerprint, and what is known about it in `judges/NAME/` of the stage's folder. One
managed server runs at a time. With `panel.stop_settled` a judge is asked only about views that those before it left
open; canaries are asked of every judge. Left out: the mathematics (`judges/panel.py`), and
relabelling with a panel (`relabel.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from constitutions.schema import Constitution
from evaluation.judge_quality import JudgeQuality, PanelQuality, PanelRow, PanelSeat
from evaluation.judge_view import write_judge_page
from flows.context import RunContext
from flows.stages.canaries import PAGE, QUALITY, quality_of, resampling, write_findings
from flows.stages.judging import (
    DECIDED,
    WATCHED,
    Heard,
    Judged,
    check_judge,
    constitution_of,
    hear,
    judge_pairs,
    make_judge,
)
from judges.aggregate import Bools
from judges.assignment import Coverage, cover_scope
from judges.gold import GoldAgreement, gold_agreement
from judges.labels import labels_of
from judges.panel import Member, member_verdicts, panel_pairs
from judges.panel_agreement import PanelAgreement, agreement_metrics, measure_agreement
from judges.panel_views import settled_views, view_leads
from judges.questions import Pair, Questionnaire, in_scope, write_questions
from judges.statistics import LabellingStatistics, order_statistics
from ratify.canonical import digest
from ratify.errors import BudgetError, ConfigError
from ratify.files import write_text
from ratify.sections import JudgeSection
from ratify.types import Prompt

SAVED = "label/panel/calls/saved"
"""Metric key: questions that a judge was not asked because those before it had settled them."""
FOLDER = "judges"


class Seat(NamedTuple):
    """One judge of the panel."""

    name: str
    weight: float
    context: RunContext
    """The run with this judge in the place of `[judge]`."""


class Voiced(NamedTuple):
    """A judge that was asked."""

    seat: Seat
    member: Member
    heard: Heard
    saved: int


def seats_of(context: RunContext) -> list[Seat]:
    """The judges in the order in which they are asked; one for a run without a panel.

    Raises:
        ConfigError: two of them are the same judge.
    """
    panel = context.config.panel
    sections = [context.config.judge, *(judge.section for judge in panel.judges)]
    seats = [
        Seat(name, weight, _in_place(context, section, name if panel.judges else ""))
        for name, weight, section in zip(panel.names, panel.weights, sections, strict=True)
    ]
    known: dict[str, str] = {}
    for seat in seats if panel.judges else ():
        other = known.setdefault(make_judge(seat.context).fingerprint, seat.name)
        if other != seat.name:
            raise ConfigError(
                f"panel: {other!r} and {seat.name!r} are the same judge, whose answers would count twice; give one of "
                "them another model or read-out, or raise its weight"
            )
    return seats


def _in_place(context: RunContext, section: JudgeSection, name: str) -> RunContext:
    """The run with this judge; what is shown of its work bears its name."""
    config = context.config.model_copy(update={"judge": section})
    show = (lambda title: context.show(f"{title} ({name})")) if name else context.show
    return RunContext(config, context.round_number, show)


def check_panel(context: RunContext) -> None:
    """Look at every judge before anything is started or paid."""
    for seat in seats_of(context):
        check_judge(seat.context)


def panel_lineage(context: RunContext) -> dict[str, Any]:
    """What labels depend on through the panel; empty without one."""
    panel = context.config.panel
    if not panel.judges:
        return {}
    judges = [
        {"name": seat.name, "weight": seat.weight, "judge": make_judge(seat.context).fingerprint}
        for seat in seats_of(context)
    ]
    return {"panel": {**panel.model_dump(mode="json", exclude={"judges"}), "judges": judges}}


def judge_by_all(
    context: RunContext, prompts: Mapping[str, Prompt], pairs: Sequence[Pair], *, log_path: Path, stage: str
) -> Judged:
    """Have every pair judged by the panel, or by the judge of a run without one; arguments as for `judge_pairs`."""
    judge = judge_by_panel if context.config.panel.judges else judge_pairs
    return judge(context, prompts, pairs, log_path=log_path, stage=stage)


def judge_by_panel(
    context: RunContext,
    prompts: Mapping[str, Prompt],
    pairs: Sequence[Pair],
    *,
    log_path: Path,
    stage: str,
    per_pair: int = 0,
) -> Judged:
    """Have every pair judged by all judges of the panel; arguments as for `judge_pairs`."""
    constitution, panel = constitution_of(context), context.config.panel
    protocol = context.config.judge.verdict_protocol
    coverage, spoken = _panel_coverage(context, prompts, pairs, constitution, per_pair)
    voices: list[Voiced] = []
    for seat, wanted in zip(seats_of(context), spoken, strict=True):
        folder = log_path.parent / FOLDER / seat.name
        folder.mkdir(parents=True, exist_ok=True)
        judge, principles, saved = make_judge(seat.context), constitution.active, 0
        sheet = write_questions(prompts, pairs, principles, judge, wanted)
        if voices and panel.stop_settled:
            whole, open_ = len(sheet.questions), wanted & ~_settled(context, constitution, voices)
            sheet = write_questions(prompts, pairs, principles, judge, open_)
            saved = whole - len(sheet.questions)
        voices.append(_ask(seat, sheet, folder, saved, watched=stage == WATCHED))
    members = {voice.seat.name: voice.member for voice in voices}
    found = panel_pairs(
        list(members.values()), constitution, protocol,
        pooling=panel.combine, quorum=panel.quorum, decided=coverage.decided,
    )  # fmt: skip
    rows = measure_agreement(members, [each.id for each in constitution.active], protocol, resampling(context))
    together = _gold_agreement(context, constitution, voices)
    _write_quality(log_path.parent, context, voices, rows, together)
    metrics = _metrics(voices) | agreement_metrics(rows) | _gold_metrics(together)
    metrics[DECIDED] = int(found.evidence.by_checks.sum())
    verdicts = [verdict for voice in voices for verdict in voice.heard.collection.verdicts.values()]
    return Judged(found, verdicts, {key.replace("label/", f"{stage}/", 1): value for key, value in metrics.items()})


def _panel_coverage(
    context: RunContext, prompts: Mapping[str, Prompt], pairs: Sequence[Pair], constitution: Constitution, per_pair: int
) -> tuple[Coverage, list[Bools]]:
    """Who speaks about which pair, and of that what each judge has to say; a draw is the same for all of them."""
    judges = [make_judge(seat.context) for seat in seats_of(context)]
    scopes = [in_scope(prompts, pairs, constitution.active, judge) for judge in judges]
    anybody: Bools = np.any(scopes, axis=0)
    coverage = cover_scope(pairs, constitution.active, anybody, judges[0], per_pair)
    return coverage, [coverage.open & scope for scope in scopes]


def _settled(context: RunContext, constitution: Constitution, voices: Sequence[Voiced]) -> Bools:
    """(N, P): nobody needs to be asked further."""
    panel, members = context.config.panel, [voice.member for voice in voices]
    columns = [
        settled_views(
            view_leads(member_verdicts(members, principle.id), context.config.judge.verdict_protocol),
            panel.weights, panel.combine, panel.agree_above,
        )
        for principle in constitution.active
    ]  # fmt: skip
    return np.stack(columns, axis=1)


def _ask(seat: Seat, sheet: Questionnaire, folder: Path, saved: int, *, watched: bool) -> Voiced:
    """Have a judge answer what is open, and write down what is known about it.

    Raises:
        BudgetError: for the reasons of `hear`, with the judge's name.
    """
    try:
        heard = hear(seat.context, sheet, log_path=folder / "server.log", watched=watched)
    except BudgetError as error:
        raise type(error)(f"judge {seat.name!r} of the panel: {error}") from None
    if seat.context.config.judge.verdict_protocol == "pairwise":
        heard.metrics.update(order_statistics(sheet.keys, heard.collection.verdicts).metrics())
    write_findings(folder, heard.judge, heard.biases, heard.findings)
    member = Member(heard.judge.fingerprint, seat.weight, sheet, heard.worth, heard.collection.failures)
    return Voiced(seat, member, heard, saved)


def _metrics(voices: Sequence[Voiced]) -> dict[str, Any]:
    """Totals under the usual keys, and each judge's own figures under its name."""
    total, money = LabellingStatistics(), dict[str, float]()
    named: dict[str, Any] = {}
    for voice in voices:
        total = total.plus(voice.heard.collection.statistics)
        for key, value in voice.heard.metrics.items():
            named[key.replace("label/", f"label/panel/{voice.seat.name}/", 1)] = value
            if key.startswith("label/money/"):
                money[key] = money.get(key, 0.0) + value
    return {**total.metrics(), **money, SAVED: sum(voice.saved for voice in voices), **named}


def panel_summary(metrics: Mapping[str, Any]) -> str:
    """What settled views saved, for a stage's summary; empty without any."""
    saved = next((value for key, value in metrics.items() if key.endswith(SAVED.removeprefix("label"))), 0)
    return f"; {saved:,} questions of the panel saved by settled views" if saved else ""


def _gold_agreement(context: RunContext, constitution: Constitution, voices: Sequence[Voiced]) -> GoldAgreement | None:
    """The panel's agreement with the canaries, combined as its labels are; None without canaries."""
    panel, settings, protocol = context.config.panel, context.config.gold, context.config.judge.verdict_protocol
    watches = [voice.heard.watch for voice in voices]
    if watches[0] is None:
        return None
    members = [voice.member._replace(sheet=watch.sheet) for voice, watch in zip(voices, watches, strict=True) if watch]
    found = panel_pairs(
        members, constitution, protocol, pooling=panel.combine, quorum=panel.quorum, decided=watches[0].decided
    )
    return gold_agreement(watches[0].gold, labels_of(found), settings.human_ceiling, resampling(context))


def _gold_metrics(found: GoldAgreement | None) -> dict[str, Any]:
    if found is None:
        return {}
    figures: dict[str, Any] = {"label/gold/pairs": found.pairs, "label/gold/failed": found.failed}
    for key, share in (("label/gold/agreement", found.overall), ("label/gold/of_ceiling", found.of_ceiling)):
        if share is not None:
            figures |= {key: share.value, f"{key}/low": share.low, f"{key}/high": share.high}
    return figures


def _write_quality(
    folder: Path, context: RunContext, voices: Sequence[Voiced], rows: Sequence[PanelAgreement],
    together: GoldAgreement | None,
) -> None:  # fmt: skip
    """Write what is known about the panel: its judges' figures bear their names."""
    each = [(voice.seat.name, quality_of(voice.heard.judge, voice.heard.biases, voice.heard.findings))
            for voice in voices]  # fmt: skip
    known = {} if together is None else {
        "canaries": together.pairs, "canaries_failed": together.failed, "agreement": together.overall,
        "of_ceiling": together.of_ceiling, "by_principle": together.by_principle,
    }  # fmt: skip
    quality = JudgeQuality(
        judge=digest(["panel", *sorted(voice.member.judge for voice in voices)]),
        protocol=context.config.judge.verdict_protocol,
        biases=tuple(b.model_copy(update={"principle": f"{who}: {b.principle}"}) for who, q in each for b in q.biases),
        calibration=tuple(c.model_copy(update={"name": f"{who}: {c.name}"}) for who, q in each for c in q.calibration),
        panel=PanelQuality(
            combine=context.config.panel.combine, seats=tuple(_seats(voices)),
            rows=tuple(PanelRow.model_validate(row.model_dump()) for row in rows),
        ),
        **known,
    )  # fmt: skip
    write_text(folder / QUALITY, quality.model_dump_json(indent=2) + "\n")
    write_judge_page(folder / PAGE, "The judges of these pairs", quality)


def _seats(voices: Sequence[Voiced]) -> Iterator[PanelSeat]:
    for voice in voices:
        findings = voice.heard.findings
        yield PanelSeat(
            name=voice.seat.name, weight=voice.seat.weight, judge=voice.member.judge,
            asked=sum(len(of_pair) for of_pair in voice.member.sheet.keys),
            failed=voice.heard.collection.statistics.failed, saved=voice.saved,
            agreement=findings.agreement.overall if findings else None,
        )  # fmt: skip
