"""Prefect flow `run-round`: one whole round, stage flow after stage flow."""

from __future__ import annotations

from prefect import flow

from flows.context import RunContext
from flows.evaluate_policy import evaluate_policy
from flows.flow_runs import tracked
from flows.generate_candidates import generate_candidates
from flows.label_preferences import label_preferences
from flows.stages import FLOWS
from flows.train_policy import train_policy
from ratify.config import Config
from ratify.run_store import RunStore


@flow(name="run-round", flow_run_name="{config.run.name} round {round_number}")
def run_round(config: Config, round_number: int = 0) -> None:
    """Sample, judge, train, evaluate. What is finished for the same inputs is not done again.

    Args:
        config: The whole configuration of the run.
        round_number: The round to work on, from 0.
    """
    with RunStore(config.run_dir).lock(), tracked(config.run_dir):
        FLOWS["run_round"].check(RunContext(config, round_number))
        generate_candidates(config, round_number)
        label_preferences(config, round_number)
        train_policy(config, round_number)
        evaluate_policy(config, round_number)
