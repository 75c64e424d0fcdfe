"""Prefect flow `start-round`: a round of a run from a configuration file, as a schedule or a person starts it.

The form has few fields: which file, what to change in it, which part of a round. No key fits in: a configuration names
the environment variable that holds one. Rounds that follow each other are `flows/start_rounds.py`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.context import RunContext
from flows.prefect_approval import ask_person
from flows.prefect_tags import name_run, tag_run
from flows.stages import FLOWS
from flows.stages.kept_constitutions import keep_constitution
from flows.stages.rounds import refuse_to_redo
from flows.stages.servers import warm_up_engines
from ratify.config import Config, load_config
from ratify.errors import BatchPending
from ratify.rounds import config_of_round

Part = Literal["round", "generate", "label", "revise", "train", "evaluate"]
PARTS: dict[Part, str] = {
    "round": "run_round",
    "generate": "generate_candidates",
    "label": "label_preferences",
    "revise": "revise_completions",
    "train": "train_policy",
    "evaluate": "evaluate_policy",
}


@flow(name="start-round", flow_run_name=name_run)
def start_round(
    config: str = "configs/demo.toml",
    overrides: list[str] = [],  # noqa: B006  Prefect shows the default in its form
    run_name: str = "",
    part: Part = "round",
    round_number: int = 0,
) -> State:
    """Sample, judge, train, evaluate. What is finished for the same inputs is not done again.

    A batch that a hosted judge has not answered yet is no failure: the next start goes on.

    Args:
        config: A TOML file in the checkout.
        overrides: What to change in it, such as sampling.temperature=0.8. No secrets: name the variable that holds one.
        run_name: Folder name of the run; empty takes run.name of the file.
        part: The whole round, or one part of it.
        round_number: From 0.
    """
    loaded = configured(config, overrides, run_name)
    context = RunContext(config_of_round(loaded, round_number), round_number)
    tag_run(loaded)
    with context.run.lock():
        keep_constitution(context)
    refuse_to_redo(context, FLOWS[PARTS[part]])
    warm_up_engines(context, PARTS[part])
    try:
        _run_part(PARTS[part], context)
    except BatchPending as pending:
        return Completed(name="Waiting", message=str(pending))
    RunContext(loaded).remember()
    asked = ask_person(context) if part in ("round", "evaluate") else None
    return Completed(message=asked or f"{loaded.run_dir}, round {round_number}: {part} is finished")


def configured(config: str, overrides: list[str], run_name: str) -> Config:
    """The configuration that a form asks for."""
    named = [f"run.name='{run_name}'"] if run_name else []
    return load_config(Path(config), [*overrides, *named])


def _run_part(name: str, context: RunContext) -> None:
    if FLOWS[name].finished(context):
        get_run_logger().info("every stage is complete for these inputs, nothing is done again")
    getattr(importlib.import_module(f"flows.{name}"), name)(
        context.config.model_dump(mode="json"), context.round_number
    )
