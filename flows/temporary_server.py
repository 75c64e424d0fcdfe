"""A Prefect server for one run, where nobody has set `PREFECT_API_URL`; it dies with the run, also by `kill -9`.

Prefect can start such a server itself, but that one outlives a killed run, and nobody notices when it dies. This one
is a child that the kernel ends with its parent. It listens on the loopback address, shows no page, and writes into
Prefect's local database, so that runs show up in `prefect server start` afterwards.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

from ratify.errors import SchedulerError
from ratify.lineage import ROOT
from training.lifeline import PARENT_VARIABLE, die_with_parent

API_URL = "PREFECT_API_URL"
HOST = "127.0.0.1"
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 5.0
TRIES = 3
"""Somebody else may take the free port before the server does."""
ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""What Prefect gives to the temporary servers that it starts itself."""

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class TemporaryServer:
    """A server process and its address; `start` makes one."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    @property
    def lost(self) -> bool:
        """Whether it has ended on its own."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def configured_url() -> str | None:
    """The server that the user has: the variable `PREFECT_API_URL`, or the active profile of Prefect's settings."""
    if url := os.environ.get(API_URL):
        return url
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    try:
        profiles = tomllib.loads(
            Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).read_text(encoding="utf-8")
        )
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active", ""))
    url = profiles.get("profiles", {}).get(active, {}).get(API_URL)
    return url if isinstance(url, str) else None


def start() -> TemporaryServer:
    """Start a server and wait until it answers.

    Raises:
        SchedulerError: it ended, or did not answer in time.
    """
    for _ in range(TRIES):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "flows.temporary_server", str(port)]
        inherited = os.environ.get("PYTHONPATH")
        paths = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
        environment = os.environ | ENVIRONMENT | {PARENT_VARIABLE: str(os.getpid()), "PYTHONPATH": paths}
        # A session of its own: Ctrl-C reaches the run alone, which then stops its server in order.
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        server = TemporaryServer(process, f"http://{HOST}:{port}/api")
        if answers(server.url, START_TIMEOUT_S, server):
            return server
        server.stop()
    raise SchedulerError(
        f"Prefect's temporary server did not answer within {START_TIMEOUT_S:.0f} s; start one of your own with "
        "`prefect server start` and set PREFECT_API_URL, or run with --no-prefect"
    )


def answers(url: str, limit_s: float, server: TemporaryServer | None = None) -> bool:
    """Wait for a server's health with growing pauses; False after `limit_s`, or when its process has ended."""
    end, pause = time.monotonic() + limit_s, 0.1
    while not _healthy(url):
        if time.monotonic() > end or (server is not None and server.lost):
            return False
        time.sleep(pause)
        pause = min(2.0, pause * 1.2)
    return True


def _healthy(url: str) -> bool:
    try:
        with _direct.open(f"{url.rstrip('/')}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main(port: int) -> None:
    """In the child: become Prefect's server."""
    die_with_parent()
    import uvicorn

    uvicorn.run("prefect.server.api.server:create_app", factory=True, host=HOST, port=port, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]))
