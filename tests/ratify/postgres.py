"""A PostgreSQL server of the test's own: a fresh cluster in a temporary folder, on a Unix socket and a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """The folder of PostgreSQL's server programs, wherever Debian or the PATH has them; None without one."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


@contextmanager
def serving(programs: Path) -> Iterator[str]:
    """Start a server and give the URL of its empty database; stop it and remove everything at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ratify-postgres-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        _run([programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "ratify", "--no-sync"])
        settings = f"-p {port} -h 127.0.0.1 -k {folder}"
        _run([programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", settings, "-w", "start"])
        try:
            yield f"postgresql+psycopg://ratify@127.0.0.1:{port}/postgres"
        finally:
            _run([programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str | Path]) -> None:
    """PostgreSQL refuses to run as root, so root becomes the user that Debian made for it."""
    user = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None
    subprocess.run([str(part) for part in command], check=True, capture_output=True, user=user, cwd="/")
