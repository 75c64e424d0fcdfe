"""Prefect flow `run-rounds`: the whole loop round after round, each as a flow run of its own.

What decides about rounds is `flows/stages/rounds.py`; this flow gives it a Prefect way to do one. A start that the gate
has stopped ends at once and says so. The form of the page is `flows/start_rounds.py`.
"""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.run_round import run_round
from flows.stages.rounds import advance
from flows.stages.rounds_table import markdown_table
from ratify.config import Config
from ratify.rounds import read_rounds


@flow(name="run-rounds", flow_run_name="{config.run.name} rounds")
def run_rounds(config: Config, rounds: int) -> str:
    """Iterate the whole loop until so many rounds are closed, or the gate stops it.

    Args:
        config: The whole configuration of the run.
        rounds: Rounds that the run shall have in all.

    Returns:
        One sentence: how far the run has come, and why it stopped.
    """
    stopped = advance(config, rounds, run_round)
    closed = [record for record in read_rounds(config.run_dir) if record.closed]
    said = stopped.sentence if stopped else f"{len(closed)} rounds are finished"
    create_markdown_artifact(
        key="rounds",
        description=f"rounds of run {config.run.name}",
        markdown=f"**{said}**\n\n{markdown_table(closed)}\n",
    )
    return said
