"""Looking at a judge before it is paid for: its templates, its tokenizer, and what its server can do."""

from __future__ import annotations

import asyncio
from pathlib import Path

from judges.capabilities import require_readout
from judges.label_tokens import check_label_tokens
from judges.ranking_judge import model_judge
from ratify.client import ChatClient
from ratify.files import write_text
from ratify.sections import JudgeSection

LOG = "judge.log"
"""What the server can do, in the stage's folder."""


def check_readout(section: JudgeSection) -> None:
    """Look at what the read-out of a model judge needs; a server that the run starts is asked once it runs.

    Raises:
        ConfigError: a template is missing or faulty.
        InputError: the tokenizer has no single token for an answer.
        EndpointError: the user's server cannot do it.
    """
    model_judge(section, model_hash="unasked")
    check_label_tokens(section)
    if section.base_url:
        asyncio.run(_probe(section, section.base_url))


async def log_abilities(client: ChatClient, section: JudgeSection, folder: Path) -> None:
    """Probe the server that is about to be asked, and write down what was found.

    Raises:
        EndpointError: it cannot do what the read-out needs.
    """
    found = await require_readout(client, section)
    write_text(folder / LOG, f"{client.base_url} {client.model}: {found.sentence()}\n")


async def _probe(section: JudgeSection, base_url: str) -> None:
    async with ChatClient(section, base_url, section.model) as client:
        await require_readout(client, section)
