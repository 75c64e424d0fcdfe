"""Arrow's allocator: chosen before the library is loaded, and never against the environment."""

from __future__ import annotations

import os
import subprocess
import sys

from ratify.memory import POOL_VARIABLE, return_freed_memory

ASKED = """
import sys
import flows.cli
assert "pyarrow" not in sys.modules, "the command line loads Arrow before it chooses the allocator"
sys.argv = ["ratify", "--version"]
try:
    flows.cli.main()
except SystemExit:
    pass
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


def test_the_command_line_has_arrow_use_the_systems_allocator() -> None:
    environment = {name: value for name, value in os.environ.items() if name != POOL_VARIABLE}
    said = subprocess.run([sys.executable, "-c", ASKED], env=environment, check=True, capture_output=True, text=True)
    assert said.stdout.split()[-1] == "system"


def test_the_environment_wins() -> None:
    mine = {POOL_VARIABLE: "mimalloc"}
    return_freed_memory(mine)
    assert mine == {POOL_VARIABLE: "mimalloc"}
