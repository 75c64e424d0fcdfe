"""Stage `revise`: first replies to the training prompts, each criticised by drawn principles and rewritten.

The policy revises itself on its one server, unless `revision.model` names another model, whose server is started
after the policy's has ended. Files: first replies in `first/`, every step in `revised/`, the requests and examples
that were shown in `requests.json`, and the servers' logs. What a judge thinks of the revisions is the next stage's
matter, so an edit of weights, texts or the judge makes no reply again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from constitutions.requests import requests_for
from flows.context import RunContext, endpoint_identity
from flows.stages.generate import sampling_metrics, training_prompts
from flows.stages.judging import constitution_of
from flows.stages.servers import check_endpoint, policy_client, reviser_client
from flows.stages.stage import Metrics, Stage
from generation.revision import Draft, Revised, read_revised, revise_replies
from generation.revision_prompts import RevisionScript
from generation.revision_records import RevisedReply, RevisionExample, RevisionRequest
from generation.sampling import Sampled, read_completions, sample_completions
from ratify.canonical import digest
from ratify.client import ChatClient
from ratify.config import Config
from ratify.errors import InputError
from ratify.files import write_json
from ratify.run_store import StageStore
from ratify.sections import EndpointSection
from ratify.types import Completion, Prompt

NAME = "revise"
FIRST = "first"
"""The replies before revision, in folders and completion ids."""
REVISED = "revised"
SETTINGS = {"revisions", "replies_per_prompt", "temperature", "top_p", "max_tokens"}
"""Of the section: what the revisions depend on."""

Requests = Mapping[str, Sequence[RevisionRequest]]
"""By prompt id; empty where no principle is for the prompt."""


def first_replies(context: RunContext) -> list[Completion]:
    """The finished first replies of this round."""
    return read_completions(context.stage(NAME).path / FIRST)


def revised_replies(context: RunContext) -> list[RevisedReply]:
    """All steps of this round's finished replies."""
    return read_revised(context.stage(NAME).path / REVISED)


def reviser(config: Config) -> EndpointSection:
    """Who criticises and rewrites."""
    return config.revision if config.revision.model else config.policy


def _requests(context: RunContext, prompts: Sequence[Prompt]) -> Requests:
    constitution = constitution_of(context)
    return {prompt.id: [RevisionRequest(*each) for each in requests_for(constitution, prompt)] for prompt in prompts}


def _examples(context: RunContext) -> list[RevisionExample]:
    return [RevisionExample(**each.model_dump()) for each in constitution_of(context).revision.examples]


def _lineage(context: RunContext) -> dict[str, Any]:
    config, prompts = context.config, training_prompts(context)
    requests = _requests(context, prompts)
    scope = {prompt: sorted(each.principle for each in asked) for prompt, asked in requests.items()}
    texts = {each.principle: each for asked in requests.values() for each in asked}
    return {
        "policy": endpoint_identity(config.policy),
        "reviser": endpoint_identity(reviser(config)),
        "prompts": digest([prompt.model_dump(mode="json") for prompt in prompts]),
        "requests": {name: each.hash for name, each in sorted(texts.items())},
        "scope": digest(scope),
        "script": RevisionScript(_examples(context)).hash,
        "sampling": config.sampling.model_dump(mode="json", include={"temperature", "top_p", "max_tokens"}),
        "revision": config.revision.model_dump(mode="json", include=SETTINGS),
        "seed": config.run.seed,
    }


def _check(context: RunContext) -> None:
    config, prompts = context.config, training_prompts(context)
    if not any(_requests(context, prompts).values()):
        raise InputError(
            f"no principle of {config.constitution} is for any of the {len(prompts)} prompts of "
            f"{config.prompts.train}; widen a principle's applies_to or tag the prompts"
        )
    check_endpoint(config.policy, "policy")
    if config.revision.model:
        check_endpoint(config.revision, "revision")


def _work(context: RunContext, stage: StageStore) -> Metrics:
    return asyncio.run(_revise(context, stage))


async def _revise(context: RunContext, stage: StageStore) -> Metrics:
    config, prompts = context.config, training_prompts(context)
    requests = _requests(context, prompts)
    _write_requests(context, stage, requests)
    async with policy_client(context, config.policy, log_path=stage.path / "policy.log") as client:
        sampled = await _sample(context, stage, client, prompts)
        drafts = _drafts(prompts, sampled.completions, requests)
        if not config.revision.model:
            return _metrics(sampled, await _rewrite(context, stage, client, drafts))
    async with reviser_client(context, log_path=stage.path / "reviser.log") as client:
        return _metrics(sampled, await _rewrite(context, stage, client, drafts))


async def _sample(context: RunContext, stage: StageStore, client: ChatClient, prompts: list[Prompt]) -> Sampled:
    config = context.config
    section = config.sampling.model_copy(update={"completions_per_prompt": config.revision.replies_per_prompt})
    with context.show("sampling first replies") as progress:
        return await sample_completions(
            prompts, client, section, folder=stage.path / FIRST, policy_name=FIRST, seed=config.run.seed,
            concurrency=config.policy.concurrency, progress=progress,
        )  # fmt: skip


async def _rewrite(context: RunContext, stage: StageStore, client: ChatClient, drafts: list[Draft]) -> Revised:
    config = context.config
    with context.show("criticising and rewriting") as progress:
        return await revise_replies(
            drafts, client, config.revision, RevisionScript(_examples(context)), folder=stage.path / REVISED,
            seed=config.run.seed, concurrency=reviser(config).concurrency, progress=progress,
        )  # fmt: skip


def _drafts(prompts: Sequence[Prompt], completions: Sequence[Completion], requests: Requests) -> list[Draft]:
    by_id = {prompt.id: prompt for prompt in prompts}
    return [Draft(by_id[each.prompt_id], each, requests[each.prompt_id]) for each in completions]


def _write_requests(context: RunContext, stage: StageStore, requests: Requests) -> None:
    """What a step's hashes stand for."""
    asked = {each.principle: each for of_prompt in requests.values() for each in of_prompt}
    shown = {name: {**each._asdict(), "hash": each.hash} for name, each in sorted(asked.items())}
    examples = [each._asdict() for each in _examples(context)]
    write_json(stage.path / "requests.json", {"requests": shown, "examples": examples})


def _metrics(sampled: Sampled, revised: Revised) -> Metrics:
    steps = {key.replace("revision/", f"{NAME}.steps/", 1): value for key, value in revised.metrics.items()}
    return sampling_metrics(f"{NAME}.{FIRST}", sampled) | steps


def _summary(metrics: Metrics) -> str:
    lost = metrics["revise.steps/replies/failed"]
    return (
        f"{metrics['revise.steps/steps/count']:,.0f} revisions of {metrics['revise.steps/replies/count']:,.0f} replies"
        f"{f' ({lost:,.0f} failed)' if lost else ''}, {metrics['revise.steps/steps/unchanged']:.0%} of them word for "
        f"word what was there, {metrics['revise.steps/tokens/per_second']:,.0f} tokens/s"
    )


REVISE = Stage(NAME, "criticising and rewriting replies", _lineage, _work, _summary, _check)
