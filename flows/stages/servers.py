"""Clients of the models a stage talks to: the managed vLLM server with its start-up shown, or the user's endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from flows.context import RunContext
from generation.engine import serve, warm_up
from generation.model_folder import check_model
from ratify.client import ChatClient
from ratify.sections import EndpointSection


def warm_up_engines(context: RunContext, flow: str) -> None:
    """Begin importing vLLM in the background when `flow` will start a server, so that it starts sooner."""
    config = context.config
    if flow == "train_policy":
        return
    if flow != "label_preferences" and not config.policy.base_url:
        warm_up(config.policy.engine)
    elif config.judge.kind == "model" and not config.judge.base_url:
        warm_up(config.judge.engine)


def check_endpoint(endpoint: EndpointSection, section: str) -> None:
    """Look at a model folder, or ask the user's server for the model, before anything is started.

    Raises:
        InputError: the folder is no chat model.
        EndpointError: the server is down, refuses the key or does not serve the model.
    """
    if endpoint.base_url:
        asyncio.run(_ask_server(endpoint, endpoint.base_url))
    else:
        check_model(endpoint.model, section=section)


async def _ask_server(endpoint: EndpointSection, base_url: str) -> None:
    async with ChatClient(endpoint, base_url, endpoint.model) as client:
        await client.check()


@asynccontextmanager
async def policy_client(context: RunContext, endpoint: EndpointSection, *, log_path: Path) -> AsyncIterator[ChatClient]:
    """A client of the policy; a managed server lives as long as the context."""
    async with _client(context, endpoint, "policy", log_path) as client:
        yield client


@asynccontextmanager
async def reviser_client(context: RunContext, *, log_path: Path) -> AsyncIterator[ChatClient]:
    """A client of the model that revises in the policy's place; a managed server lives as long as the context."""
    async with _client(context, context.config.revision, "revision", log_path) as client:
        yield client


@asynccontextmanager
async def judge_client(context: RunContext, *, log_path: Path) -> AsyncIterator[ChatClient]:
    """A client of the judge's model; a managed server lives as long as the context."""
    async with _client(context, context.config.judge, "judge", log_path) as client:
        yield client


@asynccontextmanager
async def _client(
    context: RunContext, endpoint: EndpointSection, section: str, log_path: Path
) -> AsyncIterator[ChatClient]:
    with context.show(f"starting the {section}'s server") as progress:
        serving = serve(
            endpoint, log_path=log_path, section=section, on_wait=lambda seconds: progress.update(int(seconds), 0)
        )
        served = await serving.__aenter__()
    try:
        async with ChatClient(endpoint, served.base_url, served.model) as client:
            yield client
    finally:
        await serving.__aexit__(None, None, None)
