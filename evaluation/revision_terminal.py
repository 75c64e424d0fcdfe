"""The result of critique-and-revision as a person reads it: a sentence, one table of shares, a warning where it is due."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evaluation.intervals import Estimate
from evaluation.revisions import OUTCOMES, RevisionReport

LAST = "revised/last"


def print_revisions(report: RevisionReport, console: Console) -> None:
    """Print the report's sentences and table."""
    if f"{LAST}/better" not in report.metrics:
        console.print("no reply was revised to its last step, so there is nothing to compare")
        return
    console.print(Text(conclusion(report), style="bold"))
    console.print(shares_table(report))
    for warning in warnings(report):
        console.print(Text(f"! {warning}", style="yellow"))


def conclusion(report: RevisionReport) -> str:
    """Whether revision helped, by the judge."""
    better, worse = report.metrics[f"{LAST}/better"], report.metrics[f"{LAST}/worse"]
    return (
        f"the judge prefers the last revision in {_share(better)} and the first reply in {_share(worse)} of {better.n} "
        "replies"
    )


def warnings(report: RevisionReport) -> Iterator[str]:
    """What to know before anything is trained on it."""
    better, worse = report.metrics[f"{LAST}/better"], report.metrics[f"{LAST}/worse"]
    if worse.value >= better.value:
        yield "the revisions are no better than the first replies; training on all of them would teach what is worse"
    length = report.metrics.get("revised/length/ratio")
    if length and length.low is not None and length.low > 1.0:
        yield f"revisions are {length.value:.2f} times as long as the first replies, which many judges favour"


def shares_table(report: RevisionReport) -> Table:
    """One line per comparison."""
    confidence = report.metrics[f"{LAST}/better"].confidence
    caption = f"in brackets: {confidence:.0%} intervals over prompts".replace("%", "\N{NO-BREAK SPACE}%")
    table = Table(caption=caption, caption_justify="left", pad_edge=False)
    table.add_column("revision", overflow="fold", max_width=44)
    for name in (*OUTCOMES, "pairs"):
        table.add_column(name, justify="right")
    for title, key in _comparisons(report):
        shares = [report.metrics[f"{key}/{name}"] for name in OUTCOMES]
        table.add_row(Text(title), *map(_share, shares), str(shares[0].n))
    return table


def _comparisons(report: RevisionReport) -> Iterator[tuple[str, str]]:
    """Titles and keys, in the order in which they are read; what is the same as a line above is left out."""
    keys = [key.removesuffix("/better") for key in report.metrics if key.endswith("/better")]
    steps = sum(key.startswith("revised/step.") for key in keys)
    yield "last against first", LAST
    for key in keys:
        thing, _, part = key.removeprefix("revised/").partition(".")
        if thing == "step" and steps > 1:
            yield f"{part} against first", key
        elif thing == "change" and part != "1":
            yield f"{part} against {int(part) - 1}", key
        elif thing == "principle":
            yield f"step by {part}", key
        elif thing == "own":
            yield f"step by {part}, by that alone", key


def _share(estimate: Estimate) -> str:
    interval = "" if estimate.low is None else f" [{estimate.low:.0%}, {estimate.high:.0%}]"
    return f"{estimate.value:.0%}{interval}"
