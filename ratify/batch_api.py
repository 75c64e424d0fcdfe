"""Requests as batch files, for servers that answer within a day at half the price: OpenAI's Batch API and what is
compatible with it.

`BatchClient` stands in for the chat client. A request whose answer lies on disk is answered from there, by the same
reading as a live answer; any other is noted and raises `NotAnsweredYet`. So a judge runs unchanged: it is asked
everything, what it wanted is sent as batches, and it is asked again when they have ended, until nothing is missing.
A judge that asks in two steps takes two rounds. Left out: who is asked what (`flows/stages/batching.py`), and the files
(`batch_files.py`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ratify.answers import CallFailed, ChatAnswer, decode, read_answer
from ratify.batch_files import ERRORS, OUTPUT, REQUESTS, Batch, BatchFolder, Line, RequestWriter, read_line, request_id
from ratify.client import ChatClient, chat_request, read_key
from ratify.errors import BatchPending, EndpointError
from ratify.files import replacing
from ratify.redaction import redact
from ratify.sections import EndpointSection
from ratify.types import Failure, Message
from ratify.wire import Reply, brief, fault_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch as RemoteBatch

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
NAME = "ratify"
"""The field of a batch's metadata that holds its name."""
ENDED = ("completed", "expired", "cancelled")
NO_LINE = Line(Path(), 0, 0)
OnWait = Callable[[int, int], None]
"""Called with the requests that are answered and those that were sent."""


class NotAnsweredYet(Exception):
    """The request has been noted for the next batch."""


class BatchClient(ChatClient):
    """A chat client that answers from batches. `note` collects requests into the next ones."""

    def __init__(self, endpoint: EndpointSection, base_url: str, model: str, folder: Path) -> None:
        super().__init__(endpoint, base_url, model)
        self.folder = BatchFolder(folder, base_url, model)
        self.touched: set[str] = set()
        """The names of the batches that hold what was asked for."""
        self._answers: dict[str, Line] = {}
        self._batch_of: dict[str, str] = {}
        self._noted: set[str] = set()
        self._writer: RequestWriter | None = None

    async def __aenter__(self) -> BatchClient:
        await super().__aenter__()
        self.load()
        return self

    def load(self) -> None:
        """Read which requests are answered and which are under way."""
        self._answers, self._batch_of = {}, {}
        for batch in self.folder.batches():
            asked = dict.fromkeys(self.folder.request_ids(batch), batch.name)
            self._batch_of |= asked
            if batch.state == "ended":
                self._answers |= dict.fromkeys(asked, NO_LINE) | self.folder.answers(batch)

    def note(self, writer: RequestWriter | None) -> None:
        """From now on write requests that are in no batch to `writer`; None writes none."""
        self._writer, self._noted = writer, set()

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
        seed: int | None = None,
        top_logprobs: int = 0,
        extra_body: Mapping[str, Any] | None = None,
    ) -> ChatAnswer:
        """Answer one request from the batches.

        Raises:
            NotAnsweredYet: its batch has not ended, or is still to be sent.
            CallFailed: its batch ended without a usable answer to it.
        """
        request = chat_request(
            self.model, messages, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed,
            top_logprobs=top_logprobs, extra_body=extra_body,
        )  # fmt: skip
        identity = request_id(request)
        if identity in self._batch_of:
            self.touched.add(self._batch_of[identity])
        elif self._writer and identity not in self._noted:
            self._noted.add(identity)
            self._writer.add(identity, request)
        if identity in self._answers:
            return self._read(self._answers[identity], [message.content for message in messages])
        await asyncio.sleep(0)  # so that a judge that asks several things at once gets to ask them all
        raise NotAnsweredYet

    def _read(self, line: Line, echoes: Sequence[str]) -> ChatAnswer:
        def clean(text: str) -> str:
            return redact(text, [self._key], echoes)

        if not line.length:
            raise CallFailed(Failure.TRANSPORT_ERROR, "the batch ended without an answer to this request")
        answered = decode(self._without_key(read_line(line)), clean)
        response, error = answered.get("response"), answered.get("error")
        if error or not isinstance(response, dict):
            raise CallFailed(Failure.TRANSPORT_ERROR, clean(f"the batch could not answer: {json.dumps(error)}"))
        body = response.get("body")
        said = Reply(response.get("status_code", 0), {}, json.dumps(body).encode())
        fault = fault_of(said, clean)
        if fault:
            raise CallFailed(fault.failure, fault.raw)
        return read_answer(body, clean)


class BatchServer:
    """Sends batches and fetches what came of them. Every step is journaled before the next, so that a process killed at
    any moment goes on where it was. Use it as an async context manager."""

    def __init__(self, endpoint: EndpointSection, base_url: str, folder: BatchFolder) -> None:
        self._base_url = base_url
        self._endpoint = endpoint
        self._folder = folder
        self._key = read_key(endpoint)

    async def __aenter__(self) -> BatchServer:
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self._sdk: AsyncOpenAI = AsyncOpenAI(
            base_url=self._base_url, api_key=self._key or "none", timeout=self._endpoint.total_timeout_s,
            max_retries=self._endpoint.max_retries, http_client=DefaultAioHttpClient(),
        )  # fmt: skip
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._sdk.close()

    async def finish(self, names: Collection[str], *, wait: bool, poll_s: float, on_wait: OnWait) -> None:
        """Send what is not sent, and fetch what has ended, until all batches of these names have; without `wait`, look
        once.

        Raises:
            BatchPending: a batch is still running, and `wait` is off.
            EndpointError: the server refuses a batch or cannot be reached.
        """
        import aiohttp
        import httpx2
        import openai

        try:
            while True:
                batches = [batch for batch in self._folder.batches() if batch.name in names]
                running = [each for batch in batches if (each := await self._advance(batch))]
                if not running:
                    return
                done, total = _counts(running)
                on_wait(done, total)
                if not wait:
                    raise BatchPending(self._still(running, done, total))
                await asyncio.sleep(poll_s)
        except (openai.OpenAIError, aiohttp.ClientError, httpx2.HTTPError, TimeoutError, ValueError) as error:
            said = redact(brief(error), [self._key])
            raise EndpointError(
                f"{self._base_url} did not do its part of a batch ({said}); the journal in {self._folder.path} is "
                "whole: run the same command again"
            ) from None

    async def _advance(self, batch: Batch) -> RemoteBatch | None:
        """Bring one batch as far as it goes; the batch as the server sees it, if it is still running."""
        if batch.state == "ended":
            return None
        if batch.state == "written":
            batch = await self._upload(batch)
        if batch.state == "created":
            remote = _whole(await self._sdk.batches.retrieve(batch.batch_id))
        else:
            known = await self._found(batch) if batch.state == "creating" else None
            remote = _whole(known or await self._create(batch))
            batch = self._folder.save(batch.model_copy(update={"state": "created", "batch_id": remote.id}))
        if remote.status == "failed":
            raise self._refused(batch, remote)
        if remote.status not in ENDED:
            return remote
        await self._download(batch, remote)
        return None

    async def _upload(self, batch: Batch) -> Batch:
        """Upload the requests; sent twice it costs nothing."""
        path = self._folder.folder(batch) / REQUESTS
        with path.open("rb") as handle:
            named = (f"{NAME}-{batch.name[:16]}.jsonl", handle)
            uploaded = await self._sdk.files.create(file=named, purpose="batch")
        file_id = getattr(uploaded, "id", None)
        if not isinstance(file_id, str):
            raise ValueError("it took a file and named none")
        return self._folder.save(batch.model_copy(update={"state": "uploaded", "file_id": file_id}))

    async def _create(self, batch: Batch) -> RemoteBatch:
        """Create the batch, once: the SDK must not repeat a request that costs money."""
        self._folder.save(batch.model_copy(update={"state": "creating"}))
        return await self._sdk.with_options(max_retries=0).batches.create(
            input_file_id=batch.file_id, endpoint=ENDPOINT, completion_window="24h", metadata={NAME: batch.name}
        )

    async def _found(self, batch: Batch) -> RemoteBatch | None:
        """The batch of this name at the server: it may have been created just before this process was killed."""
        async for remote in self._sdk.batches.list(limit=100):
            if (remote.metadata or {}).get(NAME) == batch.name and remote.input_file_id == batch.file_id:
                return remote
        return None

    async def _download(self, batch: Batch, remote: RemoteBatch) -> None:
        """Answers and faults; the journal says `ended` when both are on disk."""
        for name, file_id in ((OUTPUT, remote.output_file_id), (ERRORS, remote.error_file_id)):
            if file_id:
                with replacing(self._folder.folder(batch) / name) as temporary:
                    async with self._sdk.files.with_streaming_response.content(file_id) as content:
                        await content.stream_to_file(temporary)
        self._folder.save(batch.model_copy(update={"state": "ended"}))

    def _refused(self, batch: Batch, remote: RemoteBatch) -> EndpointError:
        self._folder.discard(batch)
        errors = (remote.errors.data if remote.errors else None) or []
        said = redact("; ".join(f"{each.code}: {each.message}" for each in errors) or "no reason given", [self._key])
        return EndpointError(
            f"{self._base_url} refused batch {remote.id} before it began ({said[:300]}); nothing was paid: mend that "
            "and run the same command again"
        )

    def _still(self, running: list[RemoteBatch], done: int, total: int) -> str:
        names = ", ".join(each.id for each in running[:3]) + (", …" if len(running) > 3 else "")
        verb = f"batch {names} is" if len(running) == 1 else f"batches {names} are"
        return (
            f"{verb} still running at {self._base_url} ({done:,} of {total:,} requests answered); run the same command "
            "later, or with --wait"
        )


def _whole(remote: RemoteBatch) -> RemoteBatch:
    """The SDK passes on whatever it was sent; a batch has at least an id and a state."""
    if not isinstance(getattr(remote, "id", None), str) or not isinstance(getattr(remote, "status", None), str):
        raise ValueError("it answered with something that is no batch")
    return remote


def _counts(running: Sequence[RemoteBatch]) -> tuple[int, int]:
    counts = [each.request_counts for each in running if each.request_counts]
    return sum(each.completed + each.failed for each in counts), sum(each.total for each in counts)
