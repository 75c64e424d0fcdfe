"""The result of critique-and-revision as a person reads it: a sentence, two tables of shares, warnings."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.intervals import Estimate
from evaluation.revisions import OUTCOMES, RevisionReport

LAST = "revised/last"


def print_revisions(report: RevisionReport, console: Console) -> None:
    """Print the report's sentences and tables."""
    if f"{LAST}/better" not in report.metrics:
        console.print("no reply was revised to its last step, so there is nothing to compare")
        return
    console.print(Text(conclusion(report), style="bold"))
    console.print(steps_table(report))
    console.print(principles_table(report))
    for warning in warnings(report):
        console.print(Text(f"! {warning}", style="yellow"))


def conclusion(report: RevisionReport) -> str:
    """Whether revision helped, by the judge."""
    better, worse = report.metrics[f"{LAST}/better"], report.metrics[f"{LAST}/worse"]
    return (
        f"the judge prefers the last revision in {better.value:.0%} and the first reply in {worse.value:.0%} of "
        f"{better.n} replies"
    )


def warnings(report: RevisionReport) -> Iterator[str]:
    """What to know before anything is trained on it."""
    better, worse = report.metrics[f"{LAST}/better"], report.metrics[f"{LAST}/worse"]
    if worse.value >= better.value:
        yield "the revisions are no better than the first replies; training on all of them would teach what is worse"
    length = report.metrics.get("revised/length/ratio")
    if length and length.low is not None and length.low > 1.0:
        yield f"revisions are {length.value:.2f} times as long as the first replies, which many judges favour"


def steps_table(report: RevisionReport) -> Table:
    """Every revision against the first reply and against the one before, in per cent."""
    table = _table(report, "revision", *OUTCOMES)
    for title, key in _steps(report):
        table.add_row(title, *_shares(report, key, *OUTCOMES), str(report.metrics[f"{key}/better"].n))
    return table


def principles_table(report: RevisionReport) -> Table:
    """The steps that drew a principle, against the reply before, by all principles and by that one alone."""
    table = _table(report, "step by", "better", "worse", "better by it alone", "worse by it alone")
    for key in _keys(report, "principle"):
        name = key.removeprefix("revised/principle.")
        both = *_shares(report, key, "better", "worse"), *_shares(report, f"revised/own.{name}", "better", "worse")
        table.add_row(Text(name), *both, str(report.metrics[f"{key}/better"].n))
    return table


def _table(report: RevisionReport, first: str, *columns: str) -> Table:
    confidence = f"{report.metrics[f'{LAST}/better'].confidence:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    table = Table(caption=f"per cent; in brackets: {confidence} intervals over prompts", caption_justify="left")
    table.add_column(first, overflow="fold", max_width=28)
    for name in (*columns, "pairs"):
        table.add_column(name, justify="right")
    return table


def _steps(report: RevisionReport) -> Iterator[tuple[str, str]]:
    """Titles and keys; what is the same as a line above is left out."""
    numbers = sorted(int(key.rpartition(".")[2]) for key in _keys(report, "step"))
    for number in numbers:
        yield f"{number} against first", f"revised/step.{number}"
    for number in numbers[1:]:
        yield f"{number} against {number - 1}", f"revised/change.{number}"


def _keys(report: RevisionReport, thing: str) -> list[str]:
    """The comparisons of one kind."""
    keys = (key.removesuffix("/better") for key in report.metrics if key.endswith("/better"))
    return [key for key in keys if key.startswith(f"revised/{thing}.")]


def _shares(report: RevisionReport, key: str, *names: str) -> list[str]:
    return [_per_cent(report.metrics.get(f"{key}/{name}")) for name in names]


def _per_cent(share: Estimate | None) -> str:
    if share is None:
        return "not judged"
    interval = "" if share.low is None or share.high is None else f" [{share.low * 100:.0f}, {share.high * 100:.0f}]"
    return f"{share.value * 100:.0f}{interval}"
