"""Stage `generate`: sample candidate replies from the policy, to the training prompts and to the held-out ones.

Both are sampled from one server, so that the old policy's held-out replies need no second start. Files: shards of
completions in `train/` and `heldout/`, the evaluation prompts found among the training ones in `contamination.json`,
and the server's log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from flows import console
from flows.context import RunContext, endpoint_identity
from flows.stages.judging import check_judge
from flows.stages.judging_ahead import CALLS, head_start, overlaps
from flows.stages.selection import contamination, heldout_prompts, selection_metrics, training_prompts
from flows.stages.servers import check_endpoint, policy_client
from flows.stages.stage import Metrics, Stage
from flows.stages.suites import answer_in_writing, check_suites
from generation.sampling import OnShard, Sampled, read_completions, sample_completions, stream_completions
from ratify.canonical import digest
from ratify.files import write_json
from ratify.run_store import StageStore
from ratify.sections import SamplingSection
from ratify.types import Completion

__all__ = ["GENERATE", "heldout_completions", "heldout_prompts", "training_completions", "training_prompts"]

NAME = "generate"
FOUND = "contamination.json"
OLD = "old"
"""The policy before training, in completion ids."""


def heldout_sampling(context: RunContext) -> SamplingSection:
    """Held-out replies are sampled as the training ones are, but as many as evaluation asks for."""
    count = context.config.evaluation.completions_per_prompt
    return context.config.sampling.model_copy(update={"completions_per_prompt": count})


def training_completions(context: RunContext) -> list[Completion]:
    """The finished candidates of this round."""
    return read_completions(context.stage(NAME).path / "train")


def stream_training_completions(context: RunContext) -> Iterator[Completion]:
    """The same, one shard in memory at a time."""
    return stream_completions(context.stage(NAME).path / "train")


def heldout_completions(context: RunContext) -> list[Completion]:
    """The old policy's finished replies to the held-out prompts."""
    return read_completions(context.stage(NAME).path / "heldout")


def sampling_metrics(prefix: str, sampled: Sampled) -> Metrics:
    """A sampling pass's figures under `prefix`."""
    return {f"{prefix}/{key.removeprefix('generation/')}": value for key, value in sampled.metrics.items()}


def _lineage(context: RunContext) -> dict[str, Any]:
    config = context.config
    return {
        "policy": endpoint_identity(config.policy),
        "train": digest([prompt.model_dump(mode="json") for prompt in training_prompts(context)]),
        "heldout": digest([prompt.model_dump(mode="json") for prompt in heldout_prompts(context)]),
        "sampling": config.sampling.model_dump(mode="json", exclude={"shard_size"}),
        "heldout_completions_per_prompt": config.evaluation.completions_per_prompt,
        "seed": config.run.seed,
    }


def _check(context: RunContext) -> None:
    training_prompts(context), heldout_prompts(context)
    check_suites(context)
    check_endpoint(context.config.policy, "policy")
    if overlaps(context):
        check_judge(context)


def _work(context: RunContext, stage: StageStore) -> Metrics:
    return asyncio.run(_sample(context, stage))


async def _sample(context: RunContext, stage: StageStore) -> Metrics:
    if not overlaps(context):
        return await _sample_both(context, stage)
    async with head_start(context, stage.path / "judge-server.log") as ahead:
        metrics = await _sample_both(context, stage, ahead.take)
    if ahead.fault:
        console.announce("judging ahead has stopped; the label stage goes on from there", [ahead.fault])
    return metrics | ahead.metrics()


async def _sample_both(context: RunContext, stage: StageStore, on_shard: OnShard | None = None) -> Metrics:
    """Training and held-out replies; `on_shard` is told of the former."""
    config = context.config
    found = contamination(context)
    write_json(stage.path / FOUND, {"exact": dict(found.exact), "near": dict(found.near)})
    metrics: Metrics = selection_metrics(context, training_prompts(context))
    passes = (
        ("train", training_prompts(context), config.sampling, on_shard),
        ("heldout", heldout_prompts(context), heldout_sampling(context), None),
    )
    async with policy_client(context, config.policy, log_path=stage.path / "server.log") as client:
        for name, prompts, section, told in passes:
            with context.show(f"sampling {name} replies") as progress:
                sampled = await sample_completions(
                    prompts, client, section,
                    folder=stage.path / name, policy_name=OLD, seed=config.run.seed,
                    concurrency=config.policy.concurrency, token_ids=config.policy.base_url is None, progress=progress,
                    on_shard=told,
                )  # fmt: skip
            metrics |= sampling_metrics(f"generate.{name}", sampled)
        await answer_in_writing(context, client, config.policy)
    return metrics


def _summary(metrics: Metrics) -> str:
    dropped = metrics.get("generate/contaminated_dropped/count", 0)
    left_out = f", {dropped:,} training prompts left out as evaluation prompts" if dropped else ""
    return (
        f"{metrics['generate.train/completions/count']:,.0f} candidates and "
        f"{metrics['generate.heldout/completions/count']:,.0f} held-out replies, "
        f"{metrics['generate.train/tokens/per_second']:,.0f} tokens/s{left_out}"
        + (f", {metrics[CALLS]:,} judge calls meanwhile" if CALLS in metrics else "")
    )


GENERATE = Stage(
    NAME,
    "sampling replies from the policy",
    _lineage,
    _work,
    _summary,
    _check,
    needs_device=lambda config: config.policy.base_url is None,
)
