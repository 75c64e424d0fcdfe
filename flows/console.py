"""What a person reads while a run works and afterwards: a headline per stage, a status table, the final result.

Only presentation: every figure comes from a manifest or from report.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.context import RunContext
from ratify.config import Config
from ratify.errors import StoreError
from ratify.rounds import RoundRecord
from ratify.run_store import Manifest, RunStore, StageStore

STAGE_NAMES = ("generate", "label", "reward_model", "policy", "evaluate")
OPTIONAL_STAGES = ("data", "revise", "revised", "supervised")
"""Shown only where a run has them."""
REVISIONS_JSON = "revisions.json"
REVISIONS_HTML = "revisions.html"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
GATE_JSON = "gate.json"
ROUNDS_HTML = "rounds.html"

_out = Console(highlight=False, soft_wrap=True)


def introduce_demo() -> None:
    """Say what the demo is about to do."""
    _out.print(
        "[bold]Ratify demo[/]: a small assistant learns from an AI judge that applies constitutions/demo.yaml.\n"
        "Real models (data/demo), the real vLLM server, real training; two to five minutes on two cores.\n"
    )


def headline(title: str, note: str) -> None:
    """Announce a stage that starts working."""
    _out.print(f"[bold]{title}[/]  [dim]{note}[/]")


def announce(title: str, lines: list[str]) -> None:
    """Say what is to come."""
    _out.print(f"[bold]{title}[/]")
    for line in lines:
        _out.print(f"  {line}", markup=False)


def finished(manifest: Manifest, summary: str) -> None:
    """Say what a stage did and how long it took."""
    _out.print(f"  done in {manifest.seconds:.0f} s: {summary}")


def skipped(title: str) -> None:
    """Say that a stage was finished before, with the same inputs."""
    _out.print(f"[bold]{title}[/]  [dim]finished before with the same inputs, nothing to do[/]")


def nothing_to_do(context: RunContext) -> None:
    """Say that every stage is finished."""
    _out.print(f"{context.config.run_dir} is finished: every stage is complete for these inputs, nothing was done.\n")


def round_begins(record: RoundRecord, goal: int) -> None:
    """Announce a round."""
    from flows.stages.rounds_table import started_from

    _out.print(f"\n[bold]round {record.number}[/] of {goal}, seed {record.seed}: starts from {started_from(record)}")


def no_round_to_do(config: Config) -> None:
    """Say that no round is left to do."""
    _out.print(f"{config.run_dir}: nothing to do, nothing was done.")


def show_rounds(folder: Path) -> None:
    """A line for each round: where it started, what the gate said, why."""
    from flows.stages.rounds_table import COLUMNS, rows
    from ratify.rounds import read_rounds

    records = read_rounds(folder)
    table = Table(title=f"rounds of {folder}", title_justify="left")
    for column in COLUMNS:
        table.add_column(column)
    for row in rows(records):
        table.add_row(*row)
    _out.print(table)
    if (folder / ROUNDS_HTML).exists():
        _out.print(f"report across rounds: {folder / ROUNDS_HTML}")


def shares(manifests: list[Manifest]) -> None:
    """Print how the time was spent."""
    total = sum(manifest.seconds for manifest in manifests) or 1.0
    parts = (f"{m.stage} {m.seconds:.0f} s ({m.seconds / total:.0%})" for m in manifests if m.seconds)
    _out.print(f"\ntime in stages: {total:.0f} s = " + " + ".join(parts) + "\n")


def show_status(folder: Path) -> None:
    """A table of rounds and stages: finished or not, seconds, whether the files are what the manifest says."""
    run = RunStore(folder)
    table = Table(title=f"run {folder}", title_justify="left")
    for column in ("round", "stage", "state", "seconds", "finished (UTC)", "files"):
        table.add_column(column)
    for number in run.rounds():
        begun = [name for name in OPTIONAL_STAGES if run.stage(name, number).path.exists()]
        for name in (*STAGE_NAMES, *begun):
            table.add_row(str(number), name, *_stage_cells(run.stage(name, number)))
    _out.print(table)


def _stage_cells(stage: StageStore) -> tuple[str, str, str, str]:
    manifest = stage.manifest()
    if manifest is None:
        return ("started" if stage.path.exists() else "not started", "", "", "")
    changed = stage.verify()
    files = f"{len(manifest.files)} whole" if not changed else f"changed or missing: {', '.join(changed)}"
    return ("finished", f"{manifest.seconds:.1f}", manifest.finished.removesuffix("+00:00").replace("T", " "), files)


def show_report(folder: Path, *, as_json: bool) -> None:
    """Print the newest round's report: a table, or every figure by its metric key as JSON.

    Of a run that has only revised replies, their figures are the report.
    """
    from evaluation.gate_record import read_gate
    from evaluation.report import read_report
    from evaluation.terminal import print_report

    stage, revised = _newest(folder, "evaluate"), _newest(folder, "revised")
    if stage is None and revised is None:
        raise StoreError(f"{folder} has no finished evaluation yet; run `ratify run` on its configuration first")
    evaluated = [
        number for number in RunStore(folder).rounds() if RunStore(folder).stage("evaluate", number).manifest()
    ]
    if as_json:
        if len(evaluated) > 1:
            _print_rounds(folder)
        else:
            _print_figures(stage, revised)
        return
    if revised:
        show_revisions(revised.path)
    if stage:
        print_report(read_report(stage.path / REPORT_JSON), _out, read_gate(stage.path / GATE_JSON))
        _out.print(f"\nreport: {stage.path / REPORT_HTML}")
    if len(evaluated) > 1 and (folder / ROUNDS_HTML).exists():
        _out.print(f"report across {len(evaluated)} rounds: {folder / ROUNDS_HTML}")


def show_revisions(folder: Path) -> None:
    """Print how the revisions in a stage's folder were judged, and where the page and the data lie."""
    from evaluation.revision_terminal import print_revisions
    from evaluation.revisions import read_revision_report

    print_revisions(read_revision_report(folder / REVISIONS_JSON), _out)
    _out.print(f"\nreplies to read: {folder / REVISIONS_HTML}\ndata: {folder}\n")


def _print_figures(evaluation: StageStore | None, revised: StageStore | None) -> None:
    from evaluation.report import read_report
    from evaluation.revisions import read_revision_report

    figures: dict[str, Any] = {}
    if revised:
        revisions = read_revision_report(revised.path / REVISIONS_JSON)
        figures |= {key: each.model_dump() for key, each in revisions.metrics.items()} | revisions.counts
    if evaluation:
        report = read_report(evaluation.path / REPORT_JSON)
        figures |= {key: each.model_dump() for key, each in report.metrics.items()} | report.counts
    print(json.dumps(figures, indent=2))


def _print_rounds(folder: Path) -> None:
    """Every metric by round."""
    from flows.stages.rounds_page import figures_by_round

    print(json.dumps(figures_by_round(folder), indent=2))


def _newest(folder: Path, name: str) -> StageStore | None:
    """The newest round's finished stage of that name."""
    run = RunStore(folder)
    stages = (run.stage(name, number) for number in reversed(run.rounds()))
    return next((stage for stage in stages if stage.manifest()), None)
