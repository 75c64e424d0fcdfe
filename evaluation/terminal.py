"""The last thing a run prints: the conclusion, one table of old against new with intervals, the warnings.

Rich draws it on a terminal; anywhere else it is plain text of the same content.
"""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.gate_record import MEANINGS, GateVerdict
from evaluation.report import EvaluationReport
from evaluation.views import Cell, Single, comparisons, singles, wholes

PLAIN_WIDTH = 100
GATE_REASONS = 4
"""Reasons in the summary."""
GATE_STYLES = {"PROMOTE": "bold green", "HOLD": "bold yellow", "REJECT": "bold red", "INSUFFICIENT": "bold yellow"}
TONES = {"good": "green", "bad": "red", "": ""}


def print_report(
    report: EvaluationReport, console: Console | None = None, gate: GateVerdict | None = None,
    reasons: int | None = GATE_REASONS,
) -> None:  # fmt: skip
    """Print the report's sentences and table, and the gate's verdict where there is one, with at most `reasons`."""
    console = console or Console()
    if not console.is_terminal:
        text = plain_text(report, gate=gate, reasons=reasons)
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    _draw(report, console, gate, reasons)


def plain_text(
    report: EvaluationReport, width: int = PLAIN_WIDTH, gate: GateVerdict | None = None,
    reasons: int | None = GATE_REASONS,
) -> str:  # fmt: skip
    """The same as plain text, `width` columns wide."""
    buffer = StringIO()
    _draw(report, Console(file=buffer, width=width, force_terminal=False, color_system=None), gate, reasons)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def gate_lines(gate: GateVerdict, shown: int | None = None) -> list[Text]:
    """The verdict and what decided it; at most `shown` reasons."""
    lines = [Text(f"Gate: {gate.decision}, {MEANINGS[gate.decision]}.", style=GATE_STYLES[gate.decision])]
    lines += [Text(f"  {reason.status}: {reason.text}") for reason in gate.deciding[:shown]]
    left = len(gate.deciding) - len(lines) + 1
    return [*lines, Text(f"  and {left} more; `ratify gate RUN` prints all of them", style="dim")] if left else lines


def _draw(report: EvaluationReport, console: Console, gate: GateVerdict | None, reasons: int | None) -> None:
    console.print()
    for sentence in report.conclusion:
        console.print(Text(sentence, style="bold"))
    for line in gate_lines(gate, reasons) if gate else ():
        console.print(line)
    console.print()
    console.print(figures_table(report))
    for warning in report.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    if report.repeated_scores is not None:
        told = f"KL between two scorings of the same policy: {report.repeated_scores:.1e} nats per reply"
        console.print(Text(told, style="dim"))
    for name, reason in report.missing.items():
        console.print(Text(f"  not measured: {name.replace('_', ' ')} ({reason})", style="dim"))


def figures_table(report: EvaluationReport) -> Table:
    """Old against new, then the figures that have no old side."""
    shown = f"{confidence(report):.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    table = Table(caption=f"in brackets: {shown} intervals over prompts", caption_justify="left", pad_edge=False)
    table.add_column("figure", overflow="fold", max_width=36)
    for name in ("old", "new", "change"):
        table.add_column(name, justify="right")
    for row in (*comparisons(report), *wholes(report), *comparisons(report, ["harness"])):
        table.add_row(Text(row.title), _cell(row.old), _cell(row.new), _cell(row.change) if row.change else "")
    table.add_section()
    for single in headline_singles(report):
        table.add_row(Text(single.title), "", _cell(single.cell), "")
    return table


def headline_singles(report: EvaluationReport) -> list[Single]:
    """The figures without an old side that belong into a summary."""
    return [
        *singles(report, "evaluate", "win_rate", "rate"),
        *singles(report, "evaluate", "win_rate_length_controlled", "rate"),
        *(single._replace(title=f"{single.title}, nats per reply") for single in
          singles(report, "evaluate", "kl", "k3_per_reply")),
        *singles(report, "reward_model", "reward_accuracy", "heldout"),
        *[row for row in singles(report, "label", "agreement", "accuracy") if ":" not in row.title],
    ]  # fmt: skip


def confidence(report: EvaluationReport) -> float:
    """The confidence of the report's intervals."""
    return next((found.confidence for found in report.metrics.values()), 0.95)


def _cell(shown: Cell) -> Text:
    text = Text(shown.value, style=TONES[shown.tone])
    if shown.interval:
        text.append(f"\n({shown.interval})", style="dim")
    if shown.spread:
        text.append(f"\n{shown.spread}", style="dim")
    return text
