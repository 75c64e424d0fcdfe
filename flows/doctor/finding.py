"""What a check says: one sentence of what is so, one of what to do, and a repair where nothing can be lost by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Level = Literal["well", "note", "fault", "mended"]


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    """`well`: as it should be; `note`: worth knowing; `fault`: to be mended; `mended`: it was, just now."""
    what: str
    remedy: str = ""
    repair: Callable[[], None] | None = None
    """Only where it is proved that nobody needs what it removes or marks."""

    def mended(self) -> Finding:
        """Repair it, where that is possible."""
        if self.repair is None:
            return self
        self.repair()
        return Finding("mended", self.what)


def well(what: str) -> Finding:
    """All is as it should be."""
    return Finding("well", what)


def note(what: str, remedy: str = "") -> Finding:
    """Worth knowing, nothing is wrong."""
    return Finding("note", what, remedy)


def fault(what: str, remedy: str, repair: Callable[[], None] | None = None) -> Finding:
    """Something is wrong."""
    return Finding("fault", what, remedy, repair)
