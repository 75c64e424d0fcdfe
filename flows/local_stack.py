"""The services of one machine: Prefect's server, a worker that runs deployments, and a server for reports.

All listen on 127.0.0.1. The server's database is the one of `PREFECT_SERVER_DATABASE_CONNECTION_URL` (PostgreSQL), else
SQLite in the state folder; a server of your own (`PREFECT_API_URL`) is used as it is. What is deployed is
`prefect.yaml` and nothing else. Left out: starting and stopping processes (`flows/services.py`), and the UI's second
version, which asks a host outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.prefect_settings import SETTINGS
from flows.services import LOOPBACK, Service, Stack, free_port, last_lines, start, write_stack
from ratify.errors import ConfigError, StoreError
from ratify.lineage import ROOT

API_PORT = 4200
REPORT_PORT = 4280
POOL = "ratify"
PATIENCE_S = 240.0
"""Seconds until a service must answer; a new database on a busy machine takes a minute."""
DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
REPORTS_VARIABLE = "RATIFY_REPORTS_URL"
"""Tells a flow the address of the report server, for its links."""
REPORTS_ROOT_VARIABLE = "RATIFY_REPORTS_ROOT"
CHECKOUT_VARIABLE = "RATIFY_CHECKOUT"
"""Where deployments find the code; prefect.yaml refers to it."""
STACK_SETTINGS = {
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_API_HOST": LOOPBACK,
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "3",
}
"""Beside those of a run from the command line; the environment wins here, too."""


@dataclass(frozen=True)
class Ports:
    """Where the services listen."""

    api: int
    reports: int


@dataclass(frozen=True)
class Places:
    """What the person asked for."""

    state: Path
    runs: Path
    api_port: int | None = None
    reports_port: int | None = None


def choose_ports(places: Places, stack: Stack) -> Ports:
    """The ports of what runs, else those asked for, else those of last time, else the usual ones, else free ones.

    Raises:
        ConfigError: a port was asked for and is taken, or the service runs on another.
    """
    return Ports(
        _port(stack, "server", places.api_port, API_PORT), _port(stack, "reports", places.reports_port, REPORT_PORT)
    )


def _port(stack: Stack, name: str, asked: int | None, usual: int) -> int:
    running = stack.running(name)
    if running and running.port:
        if asked and asked != running.port:
            raise ConfigError(f"the {name} runs on port {running.port}; `ratify down` first to have it on {asked}")
        return running.port
    if asked == 0:
        return free_port()
    port = free_port(asked or stack.port(name) or usual)
    if asked and port != asked:
        raise ConfigError(f"port {asked} is taken by another program; choose another one, or 0 for any")
    return port


def environment(places: Places, ports: Ports) -> dict[str, str]:
    """The environment of every service, and of commands that talk to them."""
    own = {
        "PREFECT_HOME": str((places.state / "prefect").resolve()),
        "PREFECT_SERVER_API_PORT": str(ports.api),
        REPORTS_VARIABLE: f"http://{LOOPBACK}:{ports.reports}",
        CHECKOUT_VARIABLE: str(ROOT),
        REPORTS_ROOT_VARIABLE: str(places.runs.resolve()),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
    }
    given = {name: value for name, value in os.environ.items() if not (name == "PREFECT_API_URL" and not value)}
    found = {**SETTINGS, **STACK_SETTINGS, **given, **own}
    found.setdefault("PREFECT_API_URL", f"http://{LOOPBACK}:{ports.api}/api")
    if DATABASE_VARIABLE in found:
        found[DATABASE_VARIABLE] = database_url(found[DATABASE_VARIABLE])
    return found


def database_url(url: str) -> str:
    """Prefect's form of a PostgreSQL URL: with the driver that it uses.

    Raises:
        ConfigError: it is the URL of something else; it is not repeated, as it may hold a password.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("postgres", "postgresql"):
        return "postgresql+asyncpg" + url.removeprefix(scheme)
    if scheme in ("postgresql+asyncpg", "sqlite+aiosqlite"):
        return url
    raise ConfigError(f"{DATABASE_VARIABLE} must begin with postgresql:// or sqlite+aiosqlite://, not {scheme!r}")


def own_server() -> bool:
    """Is there a server that the person runs, so that none is started?"""
    return bool(os.environ.get("PREFECT_API_URL"))


def commands(places: Places, ports: Ports) -> dict[str, list[str]]:
    """What each service is started with."""
    prefect = [sys.executable, "-m", "prefect"]
    reports = ["--root", str(places.runs.resolve()), "--port", str(ports.reports)]
    return {
        "reports": [sys.executable, "-m", "flows.report_server", *reports],
        "server": [*prefect, "server", "start", "--host", LOOPBACK, "--port", str(ports.api)],
        "worker": [*prefect, "worker", "start", "--pool", POOL, "--type", "process", "--name", f"ratify-{os.getpid()}"],
    }


def ensure(name: str, places: Places, ports: Ports, stack: Stack, settings: Mapping[str, str]) -> Service:
    """Start a service unless it runs; it is in the state file before anything else happens."""
    running = stack.running(name)
    if running:
        return running
    port = {"server": ports.api, "reports": ports.reports}.get(name)
    service = start(name, commands(places, ports)[name], places.state, settings, port)
    stack.services[name] = service
    write_stack(places.state, stack)
    return service


def wait_for(address: str, service: Service | None, what: str) -> None:
    """Wait until an address answers.

    Raises:
        StoreError: the service died, or never answered; the sentence holds the end of its log.
    """
    end = time.monotonic() + PATIENCE_S
    while not _answers(address):
        if service is not None and not service.alive:
            raise StoreError(f"{what} ended at once: {last_lines(service.log)} (log: {service.log})")
        if time.monotonic() > end:
            where = f"; see {service.log}" if service else ""
            raise StoreError(f"{what} does not answer at {address} after {PATIENCE_S:.0f} s{where}")
        time.sleep(0.1)


def deploy(settings: Mapping[str, str]) -> None:
    """Register every deployment of prefect.yaml; registering again changes nothing but what the file changed.

    Raises:
        StoreError: Prefect refuses one.
    """
    said = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT, env=dict(settings), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if said.returncode:
        raise StoreError(f"prefect.yaml could not be deployed: {(said.stderr or said.stdout).strip()[-400:]}")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
