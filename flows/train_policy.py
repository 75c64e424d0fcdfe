"""Prefect flow `train-policy`: train the reward model and the new policy."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.prefect_stages import run_group
from ratify.config import Config


@flow(name="train-policy", flow_run_name="{config.run.name} round {round_number}")
def train_policy(config: Config, round_number: int = 0) -> list[Path]:
    """Train the reward model and the new policy.

    Args:
        config: The whole configuration of the run.
        round_number: The round to work on, from 0.
    """
    return run_group("train_policy", config, round_number)
