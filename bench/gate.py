"""Can the gate be fooled? Four faults with a known truth, put to it and to gates that look at less.

    python -m bench.gate [--quick] [--json PATH]

Twenty peeks: a policy that is no better is trained and measured again until it passes. Salami: one property falls by a
point a round while the judge is pleased. Constant answer: one text for every prompt wins 86.5 %. Length: replies drawn
by exp(beta * length) from a pool, a judge that likes length, quality the same. The same seeds give the same figures.
`docs/validation.md` holds what it printed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.gate_worlds import Floats, Weights, judged, replies_world, report_of, sliced
from evaluation.bounds import lower
from evaluation.gate import WIN_RATE, decide, first_figures
from evaluation.gate_record import Standing
from evaluation.intervals import wilson
from evaluation.summary import summarise
from ratify.canonical import JsonValue
from ratify.files import write_json
from ratify.gate_section import GateSection

LOOKS = 20
ROUNDS = 10
PROMPTS = 400
SALAMI_PROMPTS = 4000
SLICE = 0.01
SECTION = GateSection()
UNSPENT = GateSection(alpha=SECTION.alpha * math.pi**2 / 6)
"""Without spending: every attempt at the level `alpha` itself."""


class Row(NamedTuple):
    """One line of a table."""

    what: str
    figures: dict[str, str]


def peeks(runs: int, looks: int = LOOKS, win_rate: float = 0.5, prompts: int = PROMPTS) -> dict[str, int]:
    """Runs in which some look promotes, for the gate and for one that spends nothing."""
    promoted: Counter[str] = Counter()
    for seed in range(runs):
        generator = np.random.default_rng([1, seed])
        reports = [report_of(judged(generator, win_rate, prompts)) for _ in range(looks)]
        passed = {
            "spent": [decide(r, SECTION, Standing(attempt=k)).decision for k, r in enumerate(reports, 1)],
            "naive": [decide(r, UNSPENT).decision for r in reports],
        }
        for name, decisions in passed.items():
            promoted[name] += "PROMOTE" in decisions
            promoted[f"{name}, first look"] += decisions[0] == "PROMOTE"
    return dict(promoted)


class Salami(NamedTuple):
    """How many rounds each gate lets through in one run."""

    parent_only: int
    """Promotions in a row when only the parent is looked at."""
    ours: int
    stopped_by: str
    """The verdict that ended it."""


def salami(seed: int, rounds: int = ROUNDS, prompts: int = SALAMI_PROMPTS) -> Salami:
    """One run that loses `SLICE` of one property in every round while the judge prefers each new policy."""
    generator = np.random.default_rng([2, seed])
    start = 0.80
    reports = [
        sliced(generator, start - SLICE * (k - 1), start - SLICE * k, 0.05, prompts) for k in range(1, rounds + 1)
    ]
    first = first_figures(reports[0])
    alone = [decide(report, SECTION).decision for report in reports]
    ours = [decide(r, SECTION, Standing(first=first if k else None)).decision for k, r in enumerate(reports)]
    return Salami(_streak(alone), _streak(ours), next((said for said in ours if said != "PROMOTE"), "none"))


class Fooled(NamedTuple):
    """One evaluation of a known fault."""

    decision: str
    naive: bool
    """Does the lower bound of the win rate alone pass?"""
    win_rate: float
    controlled: float
    kl: float
    length: float
    """Words of new over old."""
    reasons: tuple[str, ...]


def fooled(seed: int, weights: Weights, taste: float, *, prompts: int = 300, constant: bool = False) -> Fooled:
    """The whole evaluation and the gate on one made-up policy."""
    report = summarise(replies_world(seed, weights, taste, prompts, constant=constant))
    verdict, found = decide(report, SECTION), report.metrics
    return Fooled(
        verdict.decision,
        lower(found[WIN_RATE], SECTION.alpha) > 0.5,
        found[WIN_RATE].value,
        found["evaluate/win_rate_length_controlled/rate"].value,
        found["evaluate/kl/k3_per_reply"].value,
        found["evaluate/words/new"].value / found["evaluate/words/old"].value,
        tuple(sorted({f"{reason.check} ({reason.metric})" for reason in verdict.deciding})),
    )


def by_length(beta: float) -> Weights:
    """A policy that likes long replies."""

    def weights(length: Floats, _quality: Floats) -> Floats:
        return beta * length

    return weights


def by_quality(beta: float) -> Weights:
    """A policy that is truly better."""

    def weights(_length: Floats, quality: Floats) -> Floats:
        return beta * quality

    return weights


def peek_rows(runs: int) -> list[Row]:
    """False promotions under the null, and power at the first look."""
    null = peeks(runs)
    rows = [
        Row(f"no better, {LOOKS} looks", {"naive": _of(null["naive"], runs), "the gate": _of(null["spent"], runs)}),
        Row(
            "no better, 1 look",
            {"naive": _of(null["naive, first look"], runs), "the gate": _of(null["spent, first look"], runs)},
        ),
    ]
    for rate in (0.54, 0.56, 0.60):
        found = peeks(runs // 4, looks=1, win_rate=rate)
        shown = {"naive": _of(found["naive"], runs // 4), "the gate": _of(found["spent"], runs // 4)}
        rows.append(Row(f"true win rate {rate:.0%}, 1 look", shown))
    return rows


def salami_rows(runs: int) -> list[Row]:
    """How many rounds pass."""
    found = [salami(seed) for seed in range(runs)]
    columns = {"parent only": [each.parent_only for each in found], "parent and first": [each.ours for each in found]}
    ends = Counter(each.stopped_by for each in found)
    rows = [
        Row(f"all {ROUNDS} rounds pass", {n: _of(sum(k == ROUNDS for k in ks), runs) for n, ks in columns.items()}),
        Row("rounds that pass, median", {name: f"{np.median(ks):g}" for name, ks in columns.items()}),
        Row("rounds that pass, most", {name: f"{max(ks)}" for name, ks in columns.items()}),
    ]
    return [*rows, Row("stopped by", {"parent and first": ", ".join(f"{k} {v}" for k, v in ends.most_common())})]


def fault_rows(seeds: int) -> list[Row]:
    """Length hacking at several strengths, a truly better policy, and the constant answer."""
    cases: list[tuple[str, Weights, float, bool]] = [
        *((f"length, beta {beta:g}", by_length(beta), 0.8, False) for beta in (0.25, 0.5, 1.0)),
        ("truly better, beta 0.5", by_quality(0.5), 0.8, False),
        ("the same policy", by_length(0.0), 0.8, False),
        ("constant answer", by_length(0.0), 0.0, True),
    ]
    return [_fault_row(name, [fooled(s, w, t, constant=c) for s in range(seeds)]) for name, w, t, c in cases]


def _fault_row(name: str, found: list[Fooled]) -> Row:
    seeds = len(found)
    decisions = Counter(each.decision for each in found)
    means = {
        "win rate": f"{np.mean([each.win_rate for each in found]):.1%}",
        "at equal length": f"{np.mean([each.controlled for each in found]):.1%}",
        "KL, nats": f"{np.mean([each.kl for each in found]):.2f}",
        "length ratio": f"{np.mean([each.length for each in found]):.2f}",
    }
    return Row(
        name,
        {
            **means,
            "win rate alone promotes": f"{sum(each.naive for each in found)}/{seeds}",
            "the gate": ", ".join(f"{decision} {count}" for decision, count in decisions.most_common()),
        },
    )


def _streak(decisions: Sequence[str]) -> int:
    return next((k for k, decision in enumerate(decisions) if decision != "PROMOTE"), len(decisions))


def _of(count: int, runs: int) -> str:
    low, high = wilson(count, runs)
    return f"{count / runs:.1%} ({low or 0:.1%} to {high or 0:.1%})"


def _print(title: str, rows: list[Row], console: Console) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    table = Table(title=title, title_justify="left")
    for column in ("", *columns):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, *(row.figures.get(column, "") for column in columns))
    console.print(table)


def main() -> None:
    """Run the four experiments and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--json", type=Path, help="also write the tables here")
    given = parser.parse_args()
    part, console, started = (10 if given.quick else 1), Console(width=150), time.monotonic()
    runs, slices, seeds = 1000 // part, 200 // part, max(2, 20 // part)
    tables = {
        f"Twenty peeks: share of {runs} runs with a promotion, {PROMPTS} prompts": peek_rows(runs),
        f"Salami: {slices} runs that lose {SLICE:.0%} of one property a round, {SALAMI_PROMPTS} prompts": salami_rows(
            slices
        ),
        f"Faults with replies: {seeds} seeds each, 300 prompts": fault_rows(seeds),
    }
    for title, rows in tables.items():
        _print(title, rows, console)
    console.print(f"{time.monotonic() - started:.0f} s")
    if given.json:
        found: JsonValue = {
            title: [{"what": row.what, **row.figures} for row in rows] for title, rows in tables.items()
        }
        write_json(given.json, found)


if __name__ == "__main__":
    main()
