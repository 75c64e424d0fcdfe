"""Prefect flow `evaluate-policy`: measure the new policy against the old one."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.prefect_stages import run_group
from ratify.config import Config


@flow(name="evaluate-policy", flow_run_name="{config.run.name} round {round_number}")
def evaluate_policy(config: Config, round_number: int = 0) -> list[Path]:
    """Measure the new policy against the old one.

    Args:
        config: The whole configuration of the run.
        round_number: The round to work on, from 0.
    """
    return run_group("evaluate_policy", config, round_number)
