"""Prefect flow `start-rounds`: rounds one after another from a configuration file, by a schedule or by a person.

`rounds` is a goal: a run that has so many does nothing. A schedule gives `more`, so that each start adds rounds. What
is decided between rounds is `flows/stages/rounds.py`; one round, or a part of it, is `flows/start_round.py`.
"""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from flows.context import RunContext
from flows.prefect_approval import ask_person
from flows.prefect_tags import name_run, tag_run
from flows.run_rounds import run_rounds
from flows.stages.kept_constitutions import keep_constitution
from flows.stages.rounds import finished, goal_of, standstill
from flows.stages.servers import warm_up_engines
from flows.start_round import configured
from ratify.config import Config
from ratify.errors import BatchPending
from ratify.rounds import closed_rounds, config_of_round, read_rounds


@flow(name="start-rounds", flow_run_name=name_run)
def start_rounds(
    config: str = "configs/demo-rounds.toml",
    overrides: list[str] = [],  # noqa: B006  Prefect shows the default in its form
    run_name: str = "",
    rounds: Annotated[int, Field(ge=1)] = 5,
    more: Annotated[int, Field(ge=0)] = 0,
) -> State:
    """Whole rounds until the run has so many, or the gate stops it. Finished rounds are not done again.

    A batch that a hosted judge has not answered yet is no failure: the next start goes on.

    Args:
        config: A TOML file in the checkout.
        overrides: What to change in it, such as rounds.data=accumulate. No secrets: name the variable that holds one.
        run_name: Folder name of the run; empty takes run.name of the file.
        rounds: Rounds that the run shall have in all.
        more: Rounds to add to those it has; goes before rounds, unless it is 0.
    """
    loaded = configured(config, overrides, run_name)
    context = RunContext(loaded)
    tag_run(loaded)
    with context.run.lock():
        keep_constitution(context)
    goal = goal_of(loaded, rounds, more or None)
    if not finished(loaded, goal):
        warm_up_engines(context, "run_round")
    try:
        said = run_rounds(loaded, goal)
    except BatchPending as pending:
        return Completed(name="Waiting", message=str(pending))
    asked = _ask_about_the_last(loaded)
    stopped = standstill(loaded) is not None
    return Completed(name="Stopped" if stopped else None, message=f"{loaded.run_dir}: {asked or said}")


def _ask_about_the_last(config: Config) -> str | None:
    """Ask a person about the newest policy, where one must agree; a sentence about it, or None."""
    closed = closed_rounds(read_rounds(config.run_dir))
    if not closed:
        return None
    number = closed[-1].number
    return ask_person(RunContext(config_of_round(config, number), number))
