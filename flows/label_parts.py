"""Prefect flow `label-parts`: judge a round's questions in parts on a Ray cluster, each part a task run.

The tasks run here and wait for the cluster, so that nodes need no way to Prefect's server and are sent none of its
settings, as prefect-ray's task runner would do with its key among them (docs/machines.md).
"""

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.context import RunContext
from flows.flow_runs import tracked
from flows.prefect_progress import shown
from flows.prefect_stages import worth_a_retry
from flows.stages.ray_node import Answer
from flows.stages.ray_parts import RayParts, judge_all, ray_parts
from ratify.config import Config


@flow(name="label-parts", flow_run_name="{config.run.name} round {round_number}, {of} parts")
def label_parts(config: Config, of: int, ray: str, round_number: int = 0) -> list[str]:
    """Judge a round's questions in parts on a Ray cluster into the shared verdict store; then label as usual.

    Args:
        config: The whole configuration of the run.
        of: How many parts there are, at most 500.
        ray: HOST:PORT of the cluster; this machine is one of its nodes.
        round_number: The round, from 0.

    Returns:
        An answer per part, as JSON.
    """
    context = RunContext(config, round_number, shown)
    with context.run.lock(), tracked(context.run.path), ray_parts(context, of, ray) as parts:
        answers = judge_all(context, parts, lambda part: _judge_part(part, of, parts))
    return [each.model_dump_json() for each in answers]


@task(
    name="judge a part", task_run_name="part {part} of {of}",
    cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=worth_a_retry,
)  # fmt: skip
def _judge_part(part: int, of: int, parts: RayParts) -> Answer:
    """Wait for one part."""
    answer = parts.judge(part)
    get_run_logger().info(
        "part %d of %d: %d verdicts, %d failed, on %s (node %s), %.1f s",
        part, of, answer.needed, answer.failed, answer.host, answer.node[:8], answer.seconds,
    )  # fmt: skip
    return answer
