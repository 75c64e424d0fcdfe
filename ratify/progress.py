"""Progress of anything that takes longer than two seconds: a bar on a terminal, a line every few seconds elsewhere.

Stages report through the `Progress` protocol and know nothing of terminals; flows choose where it is shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

LINE_EVERY_S = 10.0
"""Seconds between lines where there is no terminal."""


class Progress(Protocol):
    """What a stage calls while it works."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished (a total of 0 is unknown); `note` is a short figure worth seeing."""

    def say(self, line: str) -> None:
        """A line that stays."""


class Silent:
    """No display."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""


class _Bar:
    def __init__(self, bar: RichProgress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None, note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        self._bar.update(self._task, completed=done, total=total or None, note=note)

    def say(self, line: str) -> None:
        self._bar.console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


class _Lines:
    def __init__(self, title: str) -> None:
        self._title = title
        self._started = self._printed = time.monotonic()
        self._total = -1
        self._mark, self._done = self._started, 0
        """Since when the speed is measured, and how much was done then."""

    def update(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if (
            total != self._total or done < self._done
        ):  # another count begins: what was before it says nothing of its speed
            self._total, self._mark, self._done = total, now, done
        if now - self._printed < LINE_EVERY_S:
            return
        count = f"{done:,}/{total:,}, " if total else ""
        left = ""
        if self._done < done < total:
            left = time_left((total - done) * (now - self._mark) / (done - self._done))
        spent = f"{now - self._started:.0f} s{left}"
        print(f"  {self._title}: {count}{spent}  {note}".rstrip(), file=sys.stderr, flush=True)
        self._printed = self._mark = now
        self._done = done

    def say(self, line: str) -> None:
        print(f"  {self._title}: {line}", file=sys.stderr, flush=True)


def time_left(seconds: float) -> str:
    """What a line says of the time that is left."""
    if seconds < 90:
        return f", {seconds:.0f} s left"
    return f", {seconds / 60:.0f} min left" if seconds < 5400 else f", {seconds / 3600:.1f} h left"


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Show a bar titled `title` on a terminal, sparse lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title)
        return
    columns = (
        TextColumn("  {task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("[dim]{task.fields[note]}"),
    )  # fmt: skip
    with RichProgress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, title)
