"""SIGTERM while training: the step at work ends, a checkpoint is written, the process leaves.

The launcher allows ten seconds, then kills; training then goes on from the checkpoint before. Only for one process: the
workers of several would hear the signal in different steps and wait for each other.
"""

from __future__ import annotations

import signal
from types import FrameType

_asked: list[int] = []


def heed_sigterm() -> None:
    """From now on SIGTERM is a request; without this call it ends the process at once."""
    signal.signal(signal.SIGTERM, _note)


def asked() -> bool:
    """Whether training is to stop after this step."""
    return bool(_asked)


def leave_if_asked() -> None:
    """End the process after the checkpoint was written.

    Raises:
        SystemExit: with 128 and the signal's number, as shells do.
    """
    if _asked:
        raise SystemExit(128 + _asked[0])


def _note(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
