"""`ratify evaluate --old FILE --new FILE`: two plain files of completions, and what may stand beside them.

Only the command line; what is measured is `evaluation/plain_files.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from ratify.errors import ConfigError

PANEL = "Two plain files"
SETTINGS = {
    "capability": "suites.capability", "anchor": "evaluation.anchor", "harness_old": "suites.harness_old",
    "harness_new": "suites.harness_new",
}  # fmt: skip
"""Option → the setting that says the same of a run."""

Old = Annotated[Path | None, typer.Option(help="Completions of the old policy, as JSON lines.", rich_help_panel=PANEL)]
New = Annotated[
    Path | None, typer.Option(help="Completions of the new policy to the same prompts.", rich_help_panel=PANEL)
]
Out = Annotated[Path | None, typer.Option(help="With --old and --new: folder for the report.", rich_help_panel=PANEL)]
Suite = Annotated[
    Path | None,
    typer.Option(help="With --old and --new: items whose answers are among the completions.", rich_help_panel=PANEL),
]
Anchor = Annotated[
    Path | None, typer.Option(help="With --old and --new: text by people, for rare words.", rich_help_panel=PANEL)
]
HarnessOld = Annotated[
    Path | None, typer.Option(help="With --old and --new: lm_eval's results of the old policy.", rich_help_panel=PANEL)
]
HarnessNew = Annotated[
    Path | None, typer.Option(help="With --old and --new: lm_eval's results of the new policy.", rich_help_panel=PANEL)
]


class Files(NamedTuple):
    """The files that were named."""

    old: Path | None
    new: Path | None
    out: Path | None = None
    capability: Path | None = None
    anchor: Path | None = None
    harness_old: Path | None = None
    harness_new: Path | None = None


def compare_plain_files(files: Files) -> None:
    """Print what two files of completions show and what the gate makes of it, and write the report where `out` says.

    Raises:
        ConfigError: one of a pair is missing.
        InputError: a file is not as it should be.
    """
    from evaluation.gate_record import write_gate
    from evaluation.html_report import write_html
    from evaluation.plain_files import Beside, compare_files, gate_files
    from evaluation.report import write_report
    from evaluation.terminal import print_report
    from flows.console import GATE_JSON, REPORT_HTML, REPORT_JSON

    old, new = _both(files.old, files.new, "--old FILE and --new FILE")
    harness = (files.harness_old, files.harness_new)
    given = _both(*harness, "--harness-old PATH and --harness-new PATH") if any(harness) else None
    beside = Beside(files.capability, files.anchor, given)
    report = compare_files(old, new, beside=beside)
    verdict = gate_files(report, beside)
    console = Console(highlight=False, soft_wrap=True)
    print_report(report, console, verdict, reasons=None)
    if files.out:
        write_report(files.out / REPORT_JSON, report)
        write_gate(files.out / GATE_JSON, verdict)
        write_html(files.out / REPORT_HTML, report, verdict)
        console.print(f"\nreport: {files.out / REPORT_HTML}")


def refuse_beside_a_run(files: Files) -> None:
    """A run's configuration names its own files.

    Raises:
        ConfigError: a file was named beside a configuration.
    """
    named = next((name for name, path in files._asdict().items() if path is not None), None)
    if named:
        option, key = f"--{named.replace('_', '-')}", SETTINGS.get(named)
        instead = f"; for the run set {key}=PATH" if key else ""
        raise ConfigError(f"{option} belongs to two plain files, which need no CONFIG{instead}")


def _both(first: Path | None, second: Path | None, names: str) -> tuple[Path, Path]:
    if first is None or second is None:
        raise ConfigError(f"two policies are compared: give both {names}")
    return first, second
