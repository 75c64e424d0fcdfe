"""`ratify up` and `ratify down`: the scheduler, its page, a worker and the deployments on this machine.

Only the command line. `up` can be said again at any time: what runs stays, what is missing is started. `down` ends
exactly the processes that `up` started and keeps every run, every schedule and the database.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratify.errors import ConfigError
from ratify.lineage import ROOT

if TYPE_CHECKING:
    from flows.local_stack import Places, Ports

PANEL = "Run it every night"
State = Annotated[Path, typer.Option("--state", metavar="DIR", help="Where ids, logs and the database are kept.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="The folder of runs, whose reports are served.")]
Port = Annotated[
    int | None, typer.Option("--port", help="Port of the page and the API: 4200 or another free one; 0 for any.", min=0)
]
ReportsPort = Annotated[int | None, typer.Option("--reports-port", help="Likewise for reports: 4280.", min=0)]
STATE = Path(".ratify")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down):
        app.command(rich_help_panel=PANEL)(command)


def up(state: State = STATE, runs: Runs = Path("runs"), port: Port = None, reports_port: ReportsPort = None) -> None:
    """Start what is missing: Prefect's server, a worker, the report server; register deployments and automations."""
    from flows.local_stack import Places, choose_ports
    from flows.services import changing, read_stack

    os.chdir(ROOT)
    places = Places(state, runs, port, reports_port)
    with changing(state):
        stack = read_stack(state)
        _start(places, choose_ports(places, stack))


def _start(places: Places, ports: Ports) -> None:
    from flows import local_stack
    from flows.services import read_stack

    stack, settings = read_stack(places.state), local_stack.environment(places, ports)
    before = {name for name in stack.services if stack.running(name)}
    server = None if local_stack.own_server() else local_stack.ensure("server", places, ports, stack, settings)
    reports = local_stack.ensure("reports", places, ports, stack, settings)
    os.environ.update(settings)
    api = settings["PREFECT_API_URL"]
    print(f"waiting for {api} …" if "server" not in before else f"{api} runs already", flush=True)
    local_stack.wait_for(f"{api}/health", server, "Prefect's server")
    from flows import registration

    registration.make_pool(local_stack.POOL)
    local_stack.ensure("worker", places, ports, stack, settings)
    schedules = registration.schedules_now()
    local_stack.deploy(settings)
    registration.restore_schedules(schedules)
    registered = registration.register_automations()
    local_stack.wait_for(settings[local_stack.REPORTS_VARIABLE], reports, "the report server")
    registration.wait_for_worker(local_stack.POOL, stack.services["worker"])
    _say(registration.overview(), registered, places, settings)


def _say(deployments: list[str], automations: list[str], places: Places, settings: dict[str, str]) -> None:
    from flows.local_stack import REPORTS_VARIABLE

    database = "PostgreSQL" if "postgresql" in settings.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", "") else "SQLite"
    print(f"\nthe page:     {settings['PREFECT_API_URL'].removesuffix('/api')}   ({database})")
    print(f"reports:      {settings[REPORTS_VARIABLE]}   ({places.runs})")
    print("deployments:  " + "\n              ".join(deployments))
    print("automations:  " + "\n              ".join(automations))
    print(f"logs:         {places.state}/server.log, worker.log, reports.log")
    print("next:         switch a schedule on in the page, or start a deployment there; `ratify down` ends all this")


def down(state: State = STATE) -> None:
    """End exactly what `ratify up` started; runs, schedules and the database stay, and stopped stages resume."""
    from flows.services import changing, read_stack, stop, write_stack

    os.chdir(ROOT)
    if not state.is_dir():
        raise ConfigError(f"nothing was started from {state}: there is no such folder")
    with changing(state):
        stack = read_stack(state)
        for name in ("worker", "reports", "server"):
            service = stack.services.get(name)
            if service is None:
                continue
            ended = stop(service)
            print(f"{name}: {'ended' if ended else 'was not running'} (process {service.pid})", flush=True)
            # The port stays known, so that the page comes back under the same address.
            stack.services[name] = service.model_copy(update={"started": 0})
            write_stack(state, stack)
