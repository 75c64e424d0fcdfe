"""Prefect flow `label-preferences`: let the judge apply the constitution and write the preference data."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.prefect_stages import run_group
from ratify.config import Config


@flow(name="label-preferences", flow_run_name="{config.run.name} round {round_number}")
def label_preferences(config: Config, round_number: int = 0) -> list[Path]:
    """Let the judge apply the constitution and write the preference data.

    Args:
        config: The whole configuration of the run.
        round_number: The round to work on, from 0.
    """
    return run_group("label_preferences", config, round_number)
