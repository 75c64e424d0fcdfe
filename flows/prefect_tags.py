"""How a flow run is called and tagged in Prefect's page, so that one finds it by constitution, judge and policy.

Tags are set when a run begins and not at deployment, because the constitution's file may have changed since. They hold
hashes and names, never text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import get_client
from prefect.runtime import flow_run

from constitutions.hashes import constitution_hash
from constitutions.load import load_constitution
from ratify.config import Config, load_config
from ratify.errors import RatifyError

SHORT = 12


def name_run() -> str:
    """The name of the flow run that begins; never raises."""
    return run_title(dict(flow_run.parameters or {}))


def run_title(given: Mapping[str, Any]) -> str:
    """Run, round and part, as far as the parameters name them."""
    run = given.get("run") or given.get("run_name") or _configured_name(given)
    parts = [Path(str(run)).name]
    if "round_number" in given:
        parts.append(f"round {given['round_number']}")
    if given.get("part", "round") != "round":
        parts.append(str(given["part"]))
    return " · ".join(parts)


def _configured_name(given: Mapping[str, Any]) -> str:
    """The name that the configuration gives; a file that does not load is named itself, and the flow says why."""
    path = Path(str(given.get("config", "runs")))
    try:
        return load_config(path, given.get("overrides") or ()).run.name
    except RatifyError:
        return path.stem


def tag_run(config: Config) -> None:
    """Add the constitution's hash and the models' names to the tags of the flow run that is under way."""
    if not flow_run.id:
        return
    rules = constitution_hash(load_constitution(config.constitution))[:SHORT]
    judge = Path(config.judge.model).name if config.judge.kind == "model" else config.judge.kind
    tags = {f"constitution:{rules}", f"judge:{judge}", f"policy:{Path(config.policy.model).name}"}
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *tags}))
