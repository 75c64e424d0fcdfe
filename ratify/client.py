"""One client for every OpenAI-compatible server, one or several for a model: aiohttp, one long-lived session each.

It sends one chat request and gives back what a judge or a sampler needs. Transport faults, 429, 5xx and rubbish are
sent again after a pause with full jitter, at another server where there is one; each request is bounded in time with
all its attempts. What still fails is a `CallFailed`, which the caller keeps as data. A refused key or an unknown model
concerns every call, so it is an `EndpointError`. No key and no prompt appears in either. Left out: what an answer
means, money, and batch files (`batch_api.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from ratify.answers import CallFailed, ChatAnswer, Clean, decode, read_answer
from ratify.endpoints import Endpoint, EndpointPool, Load
from ratify.errors import EndpointError
from ratify.pauses import full_jitter_s, rate_limit_pause_s
from ratify.redaction import MIN_SECRET, REDACTED, redact
from ratify.sections import EndpointSection
from ratify.server_queue import watch_queue
from ratify.types import Failure, Message
from ratify.wire import Fault, Reply, Sign, exchange, fault_of, open_session, refusal

if TYPE_CHECKING:
    import aiohttp

__all__ = ["CallFailed", "ChatAnswer", "ChatClient", "Load"]

CHECK_TIMEOUT_S = 20.0
UNREADABLE_RETRIES = 2
"""An answer that cannot be read was computed, and may have been paid for: it is asked for again at most this often."""
_log = logging.getLogger(__name__)


class _Request(NamedTuple):
    """One request on its way."""

    body: bytes
    begins: str
    """What decides where it goes."""
    clean: Clean
    """Takes the key and this request's messages out of a text."""


class ChatClient:
    """Requests to one model behind one or several servers. Use it as an async context manager."""

    def __init__(self, endpoint: EndpointSection, base_url: str, model: str) -> None:
        """`base_url` is where the model is served; the section's `replicas` are used with the section's own address."""
        self.base_url = base_url
        self.model = model
        self._endpoint = endpoint
        self._key = read_key(endpoint)
        replicas = endpoint.replicas if base_url == endpoint.base_url else ()
        self._urls = tuple(url.rstrip("/") for url in (base_url, *replicas))
        self._pool = EndpointPool(self._urls, endpoint.concurrency, endpoint.total_timeout_s)
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._watches: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> ChatClient:
        self._sessions = {url: open_session(url, self._key or "none") for url in self._urls}
        for endpoint in self._pool.endpoints:
            watch = watch_queue(self._sessions[endpoint.url], endpoint)
            self._watches.append(asyncio.create_task(watch))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        for session in self._sessions.values():
            await session.close()

    def loads(self) -> list[Load]:
        """The servers as they are now: in flight, limit, answered, faults, resting."""
        return self._pool.loads()

    async def check(self) -> None:
        """Ask the servers which models they serve. One of several may be down: it is rested, and a warning says so.

        Raises:
            EndpointError: none answers, or one refuses the key, answers rubbish, or does not serve the model.
        """
        asked = (self._check(endpoint) for endpoint in self._pool.endpoints)
        down = [url for url in await asyncio.gather(*asked) if url]
        if len(down) == len(self._urls):
            raise EndpointError(f"no server answers at {', '.join(down)}; start it or correct base_url")
        for url in down:
            _log.warning("no server answers at %s; the others take its requests", url)

    async def _check(self, endpoint: Endpoint) -> str | None:
        """The server's address if nobody answers there."""
        url = endpoint.url
        try:
            reply = await exchange(self._sessions[url], "GET", f"{url}/models", timeout_s=CHECK_TIMEOUT_S)
            names = self._models(reply, url)
        except CallFailed as failed:
            if isinstance(failed, Fault) and failed.sign in (Sign.ABSENT, Sign.SLOW):
                endpoint.declare_ill(asyncio.get_running_loop().time())
                return url
            said = failed.raw[:300]
            raise EndpointError(f"{url} answers, but not as an OpenAI-compatible server ({said})") from None
        if self.model not in names:
            raise EndpointError(f"{url} does not serve {self.model!r}; it serves: {', '.join(names) or 'nothing'}")
        return None

    def _models(self, reply: Reply, url: str) -> list[str]:
        """The names in a list of models."""
        error = refusal(reply, url, self._endpoint.api_key_env, self.model)
        if error:
            raise error
        fault = fault_of(reply, self._clean)
        if fault and reply.status != 200:
            raise EndpointError(f"{url} refuses the request ({fault.raw[:300]})")
        if fault:
            raise fault
        try:
            return [str(each["id"]) for each in decode(reply.body, self._clean)["data"]]
        except (AttributeError, TypeError, LookupError):
            raise CallFailed(Failure.PARSE_ERROR, self._clean(reply.body.decode("utf-8", "replace"))) from None

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
        """Send one request; `top_logprobs` > 0 asks for that many alternatives of the first token.

        Raises:
            CallFailed: this call gave no usable answer after the retries.
            EndpointError: the fault concerns every call.
        """
        request = chat_request(
            self.model, messages, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed,
            top_logprobs=top_logprobs, extra_body=extra_body,
        )  # fmt: skip
        return await self._persist(
            _Request(
                orjson.dumps(request),
                _beginning(messages) if len(self._urls) > 1 else "",
                lambda text: redact(text, [self._key], [message.content for message in messages]),
            )
        )

    async def _persist(self, request: _Request) -> ChatAnswer:
        """Try until an answer, the last retry, or the end of the request's time. Waiting for a server with room costs
        no time: others are answered meanwhile."""
        patience_s, attempt, retries, last = self._endpoint.total_timeout_s, 0, 0, None
        while True:
            lease = await self._pool.lease(request.begins, last)
            last, answered_before = lease.endpoint, lease.endpoint.answered
            attempt += 1
            try:
                pause_s, answer = await self._attempt(last, request, min(self._endpoint.timeout_s, patience_s))
            except Fault as fault:
                self._pool.settle(lease, fault.sign, fault.pause_s)
                # A server that refuses some and answers others is at its limit: that is a matter of time only.
                limited = fault.sign is Sign.BUSY and last.answered > answered_before and self._endpoint.max_retries
                retries += not limited
                pause_s = 0.0 if self._pool.another(last) else full_jitter_s(attempt - 1, random.random())
                patience_s -= asyncio.get_running_loop().time() - lease.sent_at + pause_s
                if patience_s <= 0 or retries > self._most_retries(fault):
                    raise CallFailed(fault.failure, fault.raw, attempt) from None
            except BaseException:
                self._pool.settle(lease, Sign.SILENT)
                raise
            else:
                self._pool.settle(lease, Sign.WELL, pause_s)
                return answer._replace(attempts=attempt)
            await asyncio.sleep(pause_s)

    def _most_retries(self, fault: Fault) -> int:
        """How often a request is sent again after this fault."""
        if fault.sign is Sign.SILENT:
            return 0
        most = self._endpoint.max_retries
        return min(most, UNREADABLE_RETRIES) if fault.failure is Failure.PARSE_ERROR else most

    async def _attempt(self, endpoint: Endpoint, request: _Request, timeout_s: float) -> tuple[float, ChatAnswer]:
        """One exchange: the pause that the rate limit asks for, and the answer."""
        url = f"{endpoint.url}/chat/completions"
        reply = await exchange(self._sessions[endpoint.url], "POST", url, timeout_s=timeout_s, body=request.body)
        error = refusal(reply, endpoint.url, self._endpoint.api_key_env, self.model)
        if error:
            raise error
        fault = fault_of(reply, request.clean)
        if fault:
            raise _fatal_at_first(fault, endpoint)
        try:
            answer = read_answer(decode(self._without_key(reply.body), request.clean), request.clean)
        except CallFailed as failed:
            raise Fault(failed.failure, failed.raw, Sign.ILL) from None
        limited = "x-ratelimit-remaining-requests" in reply.headers or "x-ratelimit-remaining-tokens" in reply.headers
        return rate_limit_pause_s(reply.headers, endpoint.in_flight) if limited else 0.0, answer

    def _without_key(self, body: bytes) -> bytes:
        """A body that does not echo the key."""
        secret = self._key.encode()
        return body.replace(secret, REDACTED.encode()) if len(secret) >= MIN_SECRET and secret in body else body

    def _clean(self, text: str) -> str:
        return redact(text, [self._key])


def chat_request(
    model: str,
    messages: Sequence[Message],
    *,
    max_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    seed: int | None = None,
    top_logprobs: int = 0,
    extra_body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of a chat request, for a live call or a line of a batch file."""
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
    }
    if seed is not None:
        request["seed"] = seed
    if top_logprobs:
        request |= {"logprobs": True, "top_logprobs": top_logprobs}
    return {**request, **(extra_body or {})}


def read_key(endpoint: EndpointSection) -> str:
    """The key from the environment, empty where there is none.

    Raises:
        EndpointError: it holds what no key holds, such as a line break in its middle.
    """
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise EndpointError(
            f"the environment variable {endpoint.api_key_env} holds no key: it has spaces, line breaks or letters "
            "outside ASCII; copy the key again"
        )
    return key


def _fatal_at_first(fault: Fault, endpoint: Endpoint) -> Exception:
    """A request that the server calls wrong concerns every call, unless it has answered others."""
    if fault.sign is Sign.SILENT and fault.failure is Failure.TRANSPORT_ERROR and not endpoint.answered:
        return EndpointError(f"{endpoint.url} refuses the request ({fault.raw[:300]})")
    return fault


def _beginning(messages: Sequence[Message]) -> str:
    """The part that questions about the same replies share: of their text, whose end differs by principle, a power of
    two of characters, so that ends of different lengths cut the same part."""
    text = "\n".join(message.content for message in messages)
    return text[: 1 << max(0, (len(text) * 3 // 4).bit_length() - 1)]
