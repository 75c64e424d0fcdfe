"""Rollouts from a server that whoever started this task keeps supplied with the policy's weights.

The two meet in a folder. The sampler writes the weights as `version-N` (whole or absent) and waits; the other side
serves them and answers with `served-N.json`: where, or why not. A server is asked by tokens, so that no template and
no second cut of the text comes between, and every reply comes with its tokens and their log-probabilities at the
sampling temperature. Those are the server's own arithmetic: the loop computes the trainer's again and weighs by the
ratio. Left out: servers themselves, which another room starts; several processes that sample each on its own server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ratify.canonical import digest
from ratify.errors import EndpointError, EngineError
from ratify.files import write_json
from ratify.wire import Fault, exchange, open_session
from training.rollouts import PromptItem, Sampled

DESK = "desk.json"
"""There while somebody serves what is written beside it."""
POLL_S = 0.05
ATTEMPTS = 3
"""Of one request, when the connection or the answer is broken."""


class Served(BaseModel):
    """The answer to a version of the weights: a server, or the fault for which there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = ""
    model: str = ""
    concurrency: int = 64
    timeout_s: float = 600.0
    fault: str = ""


def version_folder(mailbox: Path, version: int) -> Path:
    """Where the weights of a version lie."""
    return mailbox / f"version-{version}"


def answer_file(mailbox: Path, version: int) -> Path:
    """Where the other side answers for a version."""
    return mailbox / f"served-{version}.json"


def answer(mailbox: Path, version: int, served: Served) -> None:
    """The other side's answer, whole or absent."""
    write_json(answer_file(mailbox, version), served.model_dump())


class ServedSampler:
    """A `Sampler` whose completions come over HTTP."""

    def __init__(
        self,
        mailbox: Path,
        write: Callable[[Path], None] | None,
        stops: Sequence[int],
        *,
        max_tokens: int,
        temperature: float = 1.0,
    ) -> None:
        """Bind to a folder that is being served.

        Args:
            mailbox: the folder.
            write: writes the policy as it is now as a Hugging Face folder that appears whole or not; None in a process
                that leaves this to another one.
            stops: tokens that end a completion.
            max_tokens: longest completion.
            temperature: of sampling.

        Raises:
            EngineError: nobody serves the folder.
        """
        if not (mailbox / DESK).is_file():
            raise EngineError(
                "policy_gradient.sampler = 'vllm' needs the flow that starts the server, and nobody serves "
                f"{mailbox}: use `ratify train` of a run, or set sampler = 'transformers'"
            )
        self.mailbox = mailbox
        self.write = write
        self.stops = tuple(stops)
        self.max_tokens = max_tokens
        self.temperature = temperature
        self._version = 0
        self._served = Served()

    def refresh(self) -> None:
        """Hand over the weights and wait until they are served.

        Raises:
            EngineError: the other side says that they cannot be.
        """
        self._version += 1
        if self.write is not None:
            self.write(version_folder(self.mailbox, self._version))
        found = answer_file(self.mailbox, self._version)
        while not found.is_file():
            time.sleep(POLL_S)
        self._served = Served.model_validate_json(found.read_bytes())
        if self._served.fault:
            raise EngineError(f"no rollouts from vLLM: {self._served.fault}")

    def sample(self, items: Sequence[PromptItem], completions: int, seed: int) -> list[tuple[Sampled, ...]]:
        """One request for each prompt, which asks for all its completions; many are in flight together.

        Raises:
            EndpointError: a request failed, or was answered without tokens or log-probabilities.
        """
        return asyncio.run(self._sample(items, completions, seed))

    async def _sample(self, items: Sequence[PromptItem], completions: int, seed: int) -> list[tuple[Sampled, ...]]:
        async with open_session(self._served.base_url, "none") as session:
            free = asyncio.Semaphore(max(1, self._served.concurrency // completions))

            async def one(place: int, item: PromptItem) -> tuple[Sampled, ...]:
                body = self._request(item, completions, int(digest([seed, place])[:7], 16))
                async with free:
                    return read_completions(await self._ask(session, body), completions)

            return list(await asyncio.gather(*(one(place, item) for place, item in enumerate(items))))

    def _request(self, item: PromptItem, completions: int, seed: int) -> bytes:
        request = {
            "model": self._served.model,
            "prompt": list(item.tokens),
            "n": completions,
            "seed": seed,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": 1.0,
            "stop_token_ids": list(self.stops),
            "logprobs": 0,
            "return_token_ids": True,
        }
        return json.dumps(request).encode()

    async def _ask(self, session: Any, body: bytes) -> bytes:
        url, raw = f"{self._served.base_url}/completions", ""
        for _ in range(ATTEMPTS):
            try:
                reply = await exchange(session, "POST", url, timeout_s=self._served.timeout_s, body=body)
            except Fault as fault:
                raw = fault.raw
                continue
            if reply.status == 200:
                return reply.body
            raw = f"status {reply.status}: {reply.body[:300].decode('utf-8', 'replace')}"
        raise EndpointError(f"the server of the policy that is being trained gave no completions ({raw})")


class _Logprobs(BaseModel):
    token_logprobs: tuple[float, ...]


class _Choice(BaseModel):
    index: int
    finish_reason: str
    token_ids: tuple[int, ...]
    logprobs: _Logprobs


class _Answer(BaseModel):
    choices: tuple[_Choice, ...]


def read_completions(body: bytes, completions: int) -> tuple[Sampled, ...]:
    """What an answer to a text-completion request holds, in the order of its choices.

    Raises:
        EndpointError: it lacks choices, tokens or log-probabilities, or broke off.
    """
    try:
        choices = sorted(_Answer.model_validate_json(body).choices, key=lambda choice: choice.index)
        found = tuple(_sampled(choices))
    except ValidationError as error:
        first = error.errors()[0]
        raise EndpointError(
            f"the server's completions lack {'.'.join(map(str, first['loc']))} ({first['msg']}); rollouts need a vLLM "
            "that gives tokens and their log-probabilities"
        ) from None
    if len(found) != completions:
        raise EndpointError(f"the server gave {len(found)} completions where {completions} were asked for")
    return found


def _sampled(choices: Sequence[_Choice]) -> Iterator[Sampled]:
    for choice in choices:
        reason, logprobs = choice.finish_reason, choice.logprobs.token_logprobs
        if not choice.token_ids or len(logprobs) != len(choice.token_ids):
            raise EndpointError(
                f"a completion came with {len(choice.token_ids)} tokens and {len(logprobs)} log-probabilities"
            )
        if reason not in {"stop", "length"}:
            raise EndpointError(f"the server gave a completion up ({reason})")
        yield Sampled(choice.token_ids, logprobs, "stop" if reason == "stop" else "length")
