"""The result of critique-and-revision as a person reads it: a sentence, two tables of shares, warnings."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.revision_views import (
    PRINCIPLE_HEAD,
    STEP_HEAD,
    TRUTH_HEAD,
    Rows,
    caption,
    conclusion,
    has_result,
    principle_rows,
    step_rows,
    truth_rows,
    warnings,
)
from evaluation.revisions import RevisionReport


def print_revisions(report: RevisionReport, console: Console) -> None:
    """Print the report's sentences and tables."""
    console.print(Text(conclusion(report), style="bold"))
    if not has_result(report):
        return
    console.print(_table(STEP_HEAD, step_rows(report)))
    console.print(_table(PRINCIPLE_HEAD, principle_rows(report), caption(report)))
    if truth_rows(report):
        console.print(_table(TRUTH_HEAD, truth_rows(report)))
    for warning in warnings(report):
        console.print(Text(f"! {warning}", style="yellow"))


def _table(head: Sequence[str], rows: Rows, note: str = "") -> Table:
    table = Table(caption=note, caption_justify="left", pad_edge=False)
    table.add_column(head[0], overflow="fold", min_width=18, max_width=28)
    for name in head[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
