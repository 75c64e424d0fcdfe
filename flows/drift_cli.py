"""`ratify drift RUN`: have judge, prompts, reward model or policy moved since the run began to watch them?

Only the command line; the alarms are in `evaluation/*_drift.py`. Exit codes for a scheduler: 0 nothing drifted, 11 an
alarm, 12 something could not be looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

if TYPE_CHECKING:
    from evaluation.drift_record import DriftReport, Part, Reading

PANEL = "Promote a policy"
DRIFTED, UNKNOWN = 11, 12
STYLES = {"drift": "bold red", "insufficient": "bold yellow", "new epoch": "bold yellow", "steady": "green"}
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name under runs/.")]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--part", metavar="PART", help="judge, prompts, reward_model or policy; may be repeated. All of them."
    ),
]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="Prompts to hold against the reference set.")
]
Pairs = Annotated[int, typer.Option("--pairs", min=1, help="Gold pairs to judge again at each check of an epoch.")]
NoAsk = Annotated[bool, typer.Option("--no-ask", help="Read the judge's history and ask nobody.")]
Alpha = Annotated[float, typer.Option("--alpha", min=0.0001, max=0.5, help="Level of the alarms.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print every reading as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(drift)


def drift(
    run_name: Run, *, part: Parts = None, prompts: Prompts = None, pairs: Pairs = 100, no_ask: NoAsk = False,
    alpha: Alpha = 0.05, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say whether judge, prompts, reward model or policy have drifted. Exit code 0: no, 11: yes, 12: not known."""
    from flows.find_run import run_folder
    from flows.stages.drift import check_drift

    report = check_drift(run_folder(run_name), _parts(part), ask=not no_ask, size=pairs, alpha=alpha, prompts=prompts)
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        _show(report)
    code = {"drift": DRIFTED, "insufficient": UNKNOWN}.get(report.state, 0)
    if code:
        raise typer.Exit(code)


def _parts(asked: list[str] | None) -> tuple[Part, ...]:
    from evaluation.drift_record import Part
    from ratify.errors import ConfigError

    known = get_args(Part)
    for name in asked or ():
        if name not in known:
            raise ConfigError(f"--part {name!r} is none of {', '.join(known)}")
    return cast("tuple[Part, ...]", tuple(dict.fromkeys(asked or known)))


def _show(report: DriftReport) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"run {report.run}, round {report.round}, {report.time}", style="dim", markup=False)
    for part in dict.fromkeys(reading.part for reading in report.readings):
        console.print(part.replace("_", " "), style="bold")
        for reading in report.readings:
            if reading.part == part:
                _show_reading(console, reading)


def _show_reading(console: object, reading: Reading) -> None:
    from rich.console import Console
    from rich.text import Text

    assert isinstance(console, Console)
    console.print(Text.assemble("  ", (f"{reading.state}: ", STYLES[reading.state]), reading.text))
    trust = []
    if reading.false_alarms is not None:
        trust.append(f"false alarms {reading.false_alarms:.1%} ({reading.false_alarms_from})")
    if reading.detectable is not None:
        trust.append(f"80 of 100 times it sees {reading.detectable:.3g} or more")
    if trust:
        console.print(f"    {'; '.join(trust)}", style="dim", markup=False)
