"""What the terminal and the page both show of a revision report: sentences and rows of cells, in per cent."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.intervals import Estimate
from evaluation.revisions import OUTCOMES, RevisionReport

LAST = "revised/last"
STEP_HEAD = ("revision", *OUTCOMES, "pairs")
PRINCIPLE_HEAD = ("step by", "better", "worse", "its own better", "its own worse", "pairs")
"""`its own`: by that principle alone."""
TRUTH_HEAD = ("true compliance", "first", "last", "difference")
Rows = list[tuple[str, ...]]


def has_result(report: RevisionReport) -> bool:
    """Whether any reply was revised to its last step."""
    return f"{LAST}/better" in report.metrics


def conclusion(report: RevisionReport) -> str:
    """Whether revision helped, by the judge."""
    if not has_result(report):
        return "no reply was revised to its last step, so there is nothing to compare"
    better, worse = report.metrics[f"{LAST}/better"], report.metrics[f"{LAST}/worse"]
    return (
        f"the judge prefers the last revision in {better.value:.0%} and the first reply in {worse.value:.0%} of "
        f"{better.n} replies"
    )


def warnings(report: RevisionReport) -> Iterator[str]:
    """What to know before anything is trained on it."""
    if not has_result(report):
        return
    better, worse = report.metrics[f"{LAST}/better"], report.metrics[f"{LAST}/worse"]
    if worse.value >= better.value:
        yield "the revisions are no better than the first replies; training on all of them would teach what is worse"
    length = report.metrics.get("revised/length/ratio")
    if length and length.low is not None and length.low > 1.0:
        yield f"revisions are {length.value:.2f} times as long as the first replies, which many judges favour"


def caption(report: RevisionReport) -> str:
    """What the numbers are."""
    confidence = f"{report.metrics[f'{LAST}/better'].confidence:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    return f"per cent; in brackets: {confidence} intervals over prompts"


def step_rows(report: RevisionReport) -> Rows:
    """Every revision against the first reply and against the one before, as `STEP_HEAD` says."""
    return [(title, *_shares(report, key, *OUTCOMES), _pairs(report, key)) for title, key in _steps(report)]


def principle_rows(report: RevisionReport) -> Rows:
    """The steps that drew a principle, against the reply before, by all principles and by that one alone."""
    rows = []
    for key in _keys(report, "principle"):
        name = key.removeprefix("revised/principle.")
        both = *_shares(report, key, "better", "worse"), *_shares(report, f"revised/own.{name}", "better", "worse")
        rows.append((name, *both, _pairs(report, key)))
    return rows


def truth_rows(report: RevisionReport) -> Rows:
    """What really became of the replies, where a world computes it."""
    things = [key.removesuffix("/first") for key in report.metrics if key.startswith("revised/compliance.")]
    known = [thing for thing in things if f"{thing}/first" in report.metrics]
    return [
        (thing.removeprefix("revised/compliance."), *_shares(report, thing, "first", "last", "difference"))
        for thing in known
    ]


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


def _pairs(report: RevisionReport, key: str) -> str:
    return f"{report.metrics[f'{key}/better'].n:,}"


def _shares(report: RevisionReport, key: str, *names: str) -> list[str]:
    return [_per_cent(report.metrics.get(f"{key}/{name}")) for name in names]


def _per_cent(share: Estimate | None) -> str:
    if share is None:
        return "not judged"
    interval = "" if share.low is None or share.high is None else f" [{share.low * 100:.0f}, {share.high * 100:.0f}]"
    return f"{share.value * 100:.0f}{interval}"
