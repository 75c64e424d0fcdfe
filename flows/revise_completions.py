"""Prefect flow `revise-completions`: criticise and rewrite replies, judge the revisions, write data."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.prefect_stages import run_group
from ratify.config import Config


@flow(name="revise-completions", flow_run_name="{config.run.name} round {round_number}")
def revise_completions(config: Config, round_number: int = 0) -> list[Path]:
    """Criticise and rewrite replies by the constitution, judge the revisions, write supervised and preference data.

    Args:
        config: The whole configuration of the run.
        round_number: The round to work on, from 0.
    """
    return run_group("revise_completions", config, round_number)
