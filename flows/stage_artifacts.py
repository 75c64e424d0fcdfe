"""What Prefect's page shows of a finished stage: tables and Markdown, as pure functions of what lies in the run.

A stage's table holds its figures in the order in which a person asks: how many, what failed, what it cost, how far the
judge can be trusted, and everything else. The histories are lines of the run's own rounds with sparklines. Left out:
sending them (`flows/prefect_stages.py`) and HTML, which the page would not show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.drift_record import ORDER as ORDER_OF_DRIFT
from evaluation.drift_record import DriftReport
from evaluation.gate_record import MEANINGS, GateVerdict
from evaluation.report import EvaluationReport
from ratify.promotions import Event

BARS = "▁▂▃▄▅▆▇█"
WIDEST = 40
"""Characters of a sparkline."""
MOST_ROWS = 100
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("failures", ("failed", "failure", "refused", "unreadable", "truncated", "stopped", "empty")),
    ("cost", ("money", "tokens", "calls", "seconds", "retries", "requests")),
    ("agreement", ("agreement", "gold", "canaries", "accuracy", "kappa")),
    ("position bias", ("position", "bias", "order", "flip")),
    ("counts", ("count", "pairs", "labels", "completions", "prompts", "verdicts", "ties", "steps", "reused")),
)
"""Group and the words in a metric key that put it there; the first match wins."""
ORDER = ("counts", "failures", "cost", "agreement", "position bias", "other")
HISTORY_KEYS = (
    ("win rate", "evaluate/win_rate.all/rate"),
    ("win rate at equal length", "evaluate/win_rate_length_controlled/rate"),
    ("true compliance", "evaluate/compliance.all/new"),
    ("KL to the reference, nats a reply", "evaluate/kl/k3_per_reply"),
    ("words a reply", "evaluate/words/new"),
    ("distinct word pairs", "evaluate/distinct_2/new"),
    ("repeated replies", "evaluate/duplicates/new"),
)
"""What a drift of the project would move."""
CURVES = ("loss", "accuracy", "kl", "reward")
"""Columns of metrics.jsonl that are drawn."""


def sparkline(values: Sequence[float]) -> str:
    """Values as one line of eight heights; a value that is not finite is a dot, and long series are thinned."""
    if len(values) > WIDEST:
        values = [values[round(place * (len(values) - 1) / (WIDEST - 1))] for place in range(WIDEST)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = high - low

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return "·"
        return BARS[min(len(BARS) - 1, int((value - low) / span * len(BARS)))] if span else BARS[3]

    return "".join(bar(value) for value in values)


def stage_table(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """A stage's figures as rows, grouped and in the order of `ORDER`; at most `MOST_ROWS` of them."""
    rows = [{"about": group_of(key), "figure": key, "value": cell(value)} for key, value in sorted(metrics.items())]
    rows.sort(key=lambda row: ORDER.index(row["about"]))
    return rows[:MOST_ROWS]


def group_of(key: str) -> str:
    """The group of a metric key."""
    words = key.lower()
    return next((group for group, hints in GROUPS if any(hint in words for hint in hints)), "other")


def cell(value: object) -> str:
    """A figure for a person."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def training_curves(metrics_file: Path) -> list[str]:
    """The curves of a training stage as Markdown lines; none for a stage that does not train."""
    if not metrics_file.is_file():
        return []
    rows = [json.loads(line) for line in metrics_file.read_text(encoding="utf-8").splitlines()]
    lines = []
    for name in CURVES:
        values = [float(row[name]) for row in rows if isinstance(row.get(name), int | float)]
        if len(values) > 1:
            lines.append(f"- {name} `{sparkline(values)}` {values[0]:.3f} → {values[-1]:.3f}")
    return lines


def stage_markdown(title: str, summary: str, seconds: float, curves: Iterable[str], links: Iterable[str]) -> str:
    """A finished stage in a few lines."""
    return "\n".join([f"### {title}", "", f"{summary}", "", f"{seconds:.1f} s", "", *curves, "", *links, ""])


def gate_markdown(verdict: GateVerdict, history: Sequence[Event], reports: Sequence[EvaluationReport]) -> str:
    """The gate's verdict, what decided it, and how the run came here."""
    lines = [f"## {verdict.decision}", "", MEANINGS[verdict.decision] + ".", ""]
    lines += [f"- {reason.text}" for reason in (verdict.deciding or verdict.reasons)[:10]]
    lines += ["", f"Attempt {verdict.standing.attempt}, bounds at {verdict.alpha:.4f}.", ""]
    lines += _history_table(reports, HISTORY_KEYS[:2])
    moves = [event for event in history if event.kind != "attempt"][-20:]
    if moves:
        lines += ["", "| when (UTC) | what | policy | why |", "|---|---|---|---|"]
        lines += [f"| {event.time[:16].replace('T', ' ')} | {event.kind} | {_policy(event)} | {_why(event)} |"
                  for event in reversed(moves)]  # fmt: skip
    return "\n".join(lines) + "\n"


def drift_markdown(reports: Sequence[EvaluationReport], check: DriftReport | None = None) -> str:
    """How the figures that drift would move have gone from round to round, and what a check for drift found."""
    rounds = f"{len(reports)} evaluated round{'s' * (len(reports) != 1)}"
    return "\n".join([*_readings(check), f"## {rounds}", "", *_history_table(reports, HISTORY_KEYS), ""])


def _readings(check: DriftReport | None) -> list[str]:
    """A check's readings, what should be looked at first in front."""
    if check is None:
        return []
    first = sorted(check.readings, key=lambda reading: ORDER_OF_DRIFT.index(reading.state))
    rows = [f"| {each.state} | {each.part.replace('_', ' ')} | {_plain(each.text)} |" for each in first]
    return [f"## {check.state}", "", "| state | of | found |", "|---|---|---|", *rows[:MOST_ROWS], ""]


def _history_table(reports: Sequence[EvaluationReport], keys: Iterable[tuple[str, str]]) -> list[str]:
    rows = []
    for name, key in keys:
        found = [report.metrics[key] for report in reports if key in report.metrics]
        if found:
            last, values = found[-1], [each.value for each in found]
            interval = f"{last.low:.3g} to {last.high:.3g}"
            rows.append(f"| {name} | `{sparkline(values)}` | {values[0]:.3g} | {last.value:.3g} | {interval} |")
    head = ["| figure | rounds | first | now | interval |", "|---|---|---|---|---|"]
    return [*head, *rows] if rows else ["No figure yet."]


def _policy(event: Event) -> str:
    return f"`{event.policy.short}`" if event.policy else ""


def _why(event: Event) -> str:
    said = event.override or event.reason or (f"the gate said {event.decision}" if event.decision else "")
    return _plain(f"{event.person}: {said}" if event.person else said)


def _plain(text: str) -> str:
    """Text that cannot end a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")
