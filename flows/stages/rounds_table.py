"""A run's rounds as rows of text, for the terminal and for Prefect's window."""

from __future__ import annotations

from collections.abc import Sequence

from ratify.rounds import RoundRecord

COLUMNS = ("round", "starts from", "gate", "promoted", "what decided it")


def rows(records: Sequence[RoundRecord]) -> list[tuple[str, ...]]:
    """One row a round, in the order of `COLUMNS`."""
    return [
        (
            str(record.number),
            started_from(record),
            record.closed.decision if record.closed else "not finished",
            "yes" if record.closed and record.closed.promoted else "no",
            record.closed.reason if record.closed else "",
        )
        for record in records
    ]


def started_from(record: RoundRecord) -> str:
    """Whom a round samples from, and whose weights it trains where these are others."""
    start = record.start
    who = "the first policy" if start.round is None else f"round {start.round}'s policy"
    note = f", {start.origin}" if start.round is not None else ""
    trains = "; trains the first policy's weights" if record.trained_from == "first" and start.round is not None else ""
    return f"{who} ({start.digest[:12]}{note}){trains}"


def markdown_table(records: Sequence[RoundRecord]) -> str:
    """The rows as Markdown."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows(records)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
