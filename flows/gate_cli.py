"""`ratify gate`, `ratify promote` and `ratify rollback`: may a run's new policy replace its parent, and which one does.

Only the command line; the gate is `evaluation/gate.py`, what a run remembers is `ratify/promotions.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratify.errors import GateError

if TYPE_CHECKING:
    from evaluation.gate_record import GateVerdict
    from ratify.promotions import Pointer

PANEL = "Promote a policy"
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name under runs/.")]
NewEpoch = Annotated[
    str | None,
    typer.Option("--new-epoch", metavar="REASON", help="Begin an epoch with this judge and constitution first."),
]
Override = Annotated[
    str | None, typer.Option("--override", metavar="REASON", help="Promote whatever the gate says; logged.")
]
Why = Annotated[str, typer.Option("--reason", metavar="REASON", help="Why; kept in the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="WHO", help="Who approves, where gate.require_approval is set.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (gate, promote, rollback):
        app.command(rich_help_panel=PANEL)(command)


def gate(run_name: Run, *, new_epoch: NewEpoch = None, as_json: AsJson = False) -> None:
    """Say whether a run's newest policy may replace its parent, and why. Exit code 0 is PROMOTE, 10 anything else."""
    from flows.stages.gate import begin_epoch, gate_run

    run = _folder(run_name)
    if new_epoch is not None:
        begin_epoch(run, new_epoch)
    verdict = gate_run(run)
    if as_json:
        print(verdict.model_dump_json(indent=2))
    else:
        _show(verdict)
    if verdict.decision != "PROMOTE":
        raise typer.Exit(GateError.exit_code)


def promote(run_name: Run, *, override: Override = None, by: By = None, reason: Why = "") -> None:
    """Promote a run's newest policy, if the gate says PROMOTE or a person gives a reason to override it."""
    from flows.stages.gate import Approval
    from flows.stages.gate import promote as move

    run = _folder(run_name)
    approval = None if by is None else Approval(by, reason or override or "")
    verdict, pointer = move(run, override, approval)
    said = f"the gate said {verdict.decision}" + (f", overridden: {override}" if override else "")
    by = said + (f", approved by {approval.who}: {approval.why}" if approval else "")
    _say(f"{pointer.policy.short} is promoted ({by})", run, pointer)


def rollback(run_name: Run, *, reason: Why = "") -> None:
    """Put the promoted policy's parent back in its place."""
    from flows.stages.gate import rollback as move

    run = _folder(run_name)
    pointer = move(run, reason)
    _say(f"rolled back to {pointer.policy.short}", run, pointer)


def _show(verdict: GateVerdict) -> None:
    from rich.console import Console

    from evaluation.terminal import gate_lines

    console = Console(highlight=False, soft_wrap=True)
    for line in gate_lines(verdict):
        console.print(line)
    for reason in verdict.reasons:
        if reason.status == "met":
            console.print(f"  met: {reason.text}", style="dim", markup=False)
    console.print(
        f"attempt {verdict.standing.attempt} against {verdict.standing.parent or 'its parent'}, "
        f"bounds at {verdict.alpha:.4f}; evidence {verdict.evidence[:12]}",
        style="dim",
    )


def _say(what: str, run: Path, pointer: Pointer) -> None:
    from ratify.promotions import HISTORY, POINTER

    print(what)
    print(f"policy: {pointer.policy.model}")
    line = " < ".join(policy.short for policy in (pointer.policy, *pointer.lineage))
    print(f"lineage, newest first: {line}")
    print(f"pointer: {run / POINTER}, history: {run / HISTORY}")


def _folder(name: str) -> Path:
    from flows.find_run import run_folder

    return run_folder(name)
