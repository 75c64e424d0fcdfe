"""Write a complete, hashed lock from a list of direct requirements: `python requirements/lock.py cpu.in cpu.txt`.

The resolver is pip's own (`pip install --dry-run --report`); this file only turns its report into `name==version
--hash=sha256:…` lines. The lock is for CPython 3.11 on Linux x86-64, the one platform this project is tested on. A
list may leave packages out with a line `# leave out: name name`; that is why locks are installed with `--no-deps`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def left_out(requirements: Path) -> set[str]:
    """The packages that a list says its lock does without."""
    marked = [line for line in requirements.read_text().splitlines() if line.startswith("# leave out:")]
    return {name for line in marked for name in line.removeprefix("# leave out:").split()}


def resolve(requirements: Path) -> list[dict[str, Any]]:
    """Ask pip which files it would install for `requirements` in an empty environment."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
             "--report", report.name, "-r", str(requirements)],
            check=True,
        )  # fmt: skip
        installs: list[dict[str, Any]] = json.loads(Path(report.name).read_text())["install"]
    return installs


def lock_line(install: dict[str, Any]) -> str:
    """One line of the lock; the hash is the one of the file that pip would fetch."""
    meta = install["metadata"]
    digest = install["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{meta['name'].lower().replace('_', '-')}=={meta['version']} --hash=sha256:{digest}"


def main(source: str, target: str) -> None:
    """Resolve `source` and write `target` beside it."""
    folder = Path(__file__).parent
    omitted = left_out(folder / source)
    installs = resolve(folder / source)
    lines = sorted(lock_line(item) for item in installs if item["metadata"]["name"].lower() not in omitted)
    header = f"# Made by `python requirements/lock.py {source} {target}`; install with `pip install --no-deps -r`.\n"
    (folder / target).write_text(header + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
