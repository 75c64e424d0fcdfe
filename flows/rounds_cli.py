"""`ratify rounds CONFIG`: the whole loop, round after round. Only the command line; the loop is `stages/rounds.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ratify.config import Config, load_config, resolved_json
from ratify.errors import GateError

PANEL = "The whole job"
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, such as configs/demo-rounds.toml.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides, such as rounds.data=accumulate.")
]
Number = Annotated[int, typer.Option("--number", "-n", min=1, help="Rounds that the run shall have in all.")]
More = Annotated[int | None, typer.Option("--more", min=1, help="Rounds to add to those it has; goes before -n.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration as JSON and stop.")]
NoPrefect = Annotated[bool, typer.Option("--no-prefect", help="Run the same stages as plain functions.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(rounds)


def rounds(
    config: ConfigPath,
    overrides: Overrides = None,
    *,
    number: Number = 5,
    more: More = None,
    dry_run: DryRun = False,
    no_prefect: NoPrefect = False,
) -> None:
    """Iterate the whole job: each round starts from the promoted policy, and the gate decides what is promoted.

    What is finished is not done again. Exit code 10 says that the gate has stopped the loop; docs/rounds.md.
    """
    from flows import console
    from flows.stages.rounds import finished, goal_of, standstill

    resolved = load_config(config, overrides or ())
    if dry_run:
        print(resolved_json(resolved))
        return
    goal = goal_of(resolved, number, more)
    if finished(resolved, goal):
        console.no_round_to_do(resolved)
    else:
        _work(resolved, goal, no_prefect=no_prefect)
    console.show_rounds(resolved.run_dir)
    stopped = standstill(resolved)
    if stopped:
        raise GateError(stopped.sentence)


def _work(config: Config, goal: int, *, no_prefect: bool) -> None:
    from flows.context import RunContext
    from flows.stages.rounds import advance, do_round_plainly
    from flows.stages.servers import warm_up_engines

    warm_up_engines(RunContext(config), "run_round")
    if no_prefect:
        advance(config, goal, do_round_plainly)
        return
    from flows.prefect_run import run_flow

    run_flow("run_rounds", config, rounds=goal)
