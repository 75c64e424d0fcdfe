"""Memory that is freed goes back to the machine: Arrow takes it from the system's allocator.

Arrow's own keeps what the writer of a table frees, some 20 MB after the first few thousand labels. The allocator is
chosen when the library is loaded, so this must be called before. Left out: how little a stage holds, its own business.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

POOL_VARIABLE = "ARROW_DEFAULT_MEMORY_POOL"


def return_freed_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Choose the system's allocator where the environment chooses none; children inherit it."""
    environment.setdefault(POOL_VARIABLE, "system")
