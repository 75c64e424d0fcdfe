"""`ratify doctor [RUN]`: is this machine fit, and is a run's folder whole? Mends with `--repair` what it can prove.

Only the command line; the checks are in `flows/doctor/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratify.errors import DoctorError

if TYPE_CHECKING:
    from flows.doctor.finding import Finding

STYLES = {"well": "green", "note": "yellow", "fault": "bold red", "mended": "bold green"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Look at a run")(doctor)


def doctor(
    run_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="A run's folder, or its name under runs/; without one, the machine alone."
        ),
    ] = None,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be proved to be safe.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at a run's files, verdicts and flow runs, and at this machine. Exit code 0 is no fault, 12 is any."""
    from flows.find_run import run_folder

    run = None if run_name is None else run_folder(run_name)
    found = [finding.mended() if repair else finding for finding in _findings(run)]
    if as_json:
        print(json.dumps([{"level": each.level, "what": each.what, "remedy": each.remedy} for each in found], indent=2))
    else:
        _show(found)
    if any(each.level == "fault" for each in found):
        raise typer.Exit(DoctorError.exit_code)


def _findings(run: Path | None) -> Iterator[Finding]:
    from flows.doctor.machine import check_machine
    from flows.doctor.run_folder import check_run
    from flows.doctor.verdicts import check_verdicts, read_config

    if run is not None:
        yield from check_run(run)
        yield from check_verdicts(run)
    yield from check_machine(run or Path("runs"), read_config(run) if run else None)


def _show(found: list[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for each in found:
        console.print(Text.assemble((f"{each.level:>6}", STYLES[each.level]), f"  {each.what}"))
        if each.remedy:
            console.print(Text(f"        {each.remedy}", style="dim"))
    faults = sum(each.level == "fault" for each in found)
    mendable = sum(each.level == "fault" and each.repair is not None for each in found)
    hint = f", {mendable} of them can be mended with --repair" if mendable else ""
    console.print(f"{faults} fault{'s' * (faults != 1)}{hint}" if faults else "no faults")
