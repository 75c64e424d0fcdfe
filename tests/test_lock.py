"""The environment holds what the lock promises, and the joint set of web and model libraries really imports."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "cpu.txt"
ENTRIES = re.findall(r"^([a-z0-9._-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", LOCK.read_text(), flags=re.MULTILINE)


def test_every_lock_line_is_pinned_and_hashed() -> None:
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(ENTRIES) > 200


def test_installed_versions_are_the_locked_ones() -> None:
    wrong = [(name, version) for name, version in ENTRIES if importlib.metadata.version(name) != version]
    assert wrong == []


@pytest.mark.parametrize(
    "module",
    [
        "torch",
        "transformers",
        "accelerate",
        "datasets",
        "prefect.server.api.server",
        "vllm.entrypoints.openai.api_server",
    ],
)
def test_promised_module_imports(module: str) -> None:
    answer = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=240)
    assert answer.returncode == 0, answer.stderr[-2000:]
