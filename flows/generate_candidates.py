"""Prefect flow `generate-candidates`: sample candidate replies from the policy."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.prefect_stages import run_group
from ratify.config import Config


@flow(name="generate-candidates", flow_run_name="{config.run.name} round {round_number}")
def generate_candidates(config: Config, round_number: int = 0) -> list[Path]:
    """Sample candidate replies from the policy.

    Args:
        config: The whole configuration of the run.
        round_number: The round to work on, from 0.
    """
    return run_group("generate_candidates", config, round_number)
