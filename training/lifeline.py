"""A child that dies with its parent: Linux's PR_SET_PDEATHSIG, so that `kill -9` of a flow leaves no orphaned training.

The parent's process id comes by environment variable. Left out: other systems than Linux, where this does nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "RATIFY_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent is gone; leave at once if it already is."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died between our start and the call above; then nobody would ever send the signal.
    if os.getppid() != int(parent):
        os._exit(1)
