"""One HTTP exchange, bounded in time and in size: a reply, or a fault that says what it means for the server.

Nothing else here knows aiohttp's errors or HTTP's status numbers. Left out: retries and routing (`client.py`,
`endpoints.py`), and what an answer says (`answers.py`).
"""

from __future__ import annotations

import asyncio
import os
import ssl
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ratify.answers import CallFailed, Clean
from ratify.errors import EndpointError
from ratify.pauses import retry_after_s
from ratify.types import Failure

if TYPE_CHECKING:
    import aiohttp

MAX_BODY = 16 << 20
"""Bytes of the largest answer that is read; a thousand tokens with twenty alternatives each are 2 MB."""
MAX_ERROR_BODY = 1 << 16
KEEPALIVE_S = 4.0
"""An idle connection is closed before uvicorn, which vLLM runs on, closes it (5 s) while a request is on its way."""
CONNECT_TIMEOUT_S = 20.0
JSON_TYPES = ("application/json", "text/json", "application/octet-stream", "text/plain", "")
"""Content types an answer may come under; some servers say nothing, or plain text."""


class Sign(Enum):
    """What an exchange says about the server."""

    WELL = "it answered"
    BUSY = "it has too many requests"
    ILL = "it broke off, answered with an error of its own, or with rubbish"
    ABSENT = "nobody is there"
    SLOW = "it did not answer in time"
    SILENT = "nothing: the fault is the request's"


class Reply(NamedTuple):
    """Status, headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fault(CallFailed):
    """An exchange without a usable answer."""

    def __init__(self, failure: Failure, raw: str, sign: Sign, pause_s: float | None = None) -> None:
        super().__init__(failure, raw)
        self.sign = sign
        self.pause_s = pause_s
        """What the server asked for."""


def open_session(base_url: str, key: str) -> aiohttp.ClientSession:
    """One long-lived session with a server; must be called inside an event loop. The proxy of the environment is
    looked up once, and never used for an address of this machine."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        """Keeps no connection on which the server has said something that nobody asked for: aiohttp would take it for
        the answer to the next request, and a verdict would be another question's."""

        async def _get(self, key: Any, traces: Any) -> Any:
            connection = await super()._get(key, traces)
            while connection and connection.protocol and connection.protocol.should_close:
                connection.close()
                connection = await super()._get(key, traces)
            return connection

    connector = Connector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=_trust(base_url))
    return aiohttp.ClientSession(
        connector=connector,
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "User-Agent": "ratify",
            **_account(),
        },
        proxy=_proxy(base_url),
        # `exchange` bounds the whole; aiohttp's own limit would be five minutes.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def exchange(
    session: aiohttp.ClientSession, method: str, url: str, *, timeout_s: float, body: bytes | None = None
) -> Reply:
    """Send one request and read the whole reply.

    Raises:
        Fault: the connection failed, the reply is not HTTP, too large, or not there after `timeout_s`.
    """
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError

    try:
        async with (
            asyncio.timeout(timeout_s),
            session.request(method, url, data=body and aiohttp.BytesPayload(body), allow_redirects=False) as response,
        ):
            limit = MAX_BODY if response.status == 200 else MAX_ERROR_BODY
            return Reply(response.status, response.headers, await _read(response, limit))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Fault(Failure.TRANSPORT_ERROR, brief(error), Sign.ABSENT) from None
    except TimeoutError:
        raise Fault(Failure.TRANSPORT_ERROR, f"no answer within {timeout_s:.3g} s", Sign.SLOW) from None
    except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
        raise Fault(Failure.TRANSPORT_ERROR, brief(error), Sign.ILL) from None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; of an error as much as the limit allows, of an answer all or a fault."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            response.close()
            if response.status == 200:
                raise Fault(Failure.PARSE_ERROR, f"an answer of more than {limit >> 20} MiB", Sign.ILL)
            break
    return b"".join(parts)


def fault_of(reply: Reply, clean: Clean = str) -> Fault | None:
    """What is wrong with a reply before its body is looked into; None for an answer.

    A status that concerns every call (a refused key, an unknown model) is for `refusal`; ask it first. `clean` takes
    secrets out of what is kept.
    """
    status = reply.status
    if status == 200 and _media_type(reply) in JSON_TYPES:
        return None
    text = clean(reply.body[:MAX_ERROR_BODY].decode("utf-8", "replace"))
    said = f"HTTP {status}: {text}"
    if status == 200:
        return Fault(Failure.PARSE_ERROR, f"content type {_media_type(reply)}: {text}", Sign.ILL)
    if status in (429, 503):
        pause_s = retry_after_s(reply.headers, datetime.now(UTC))
        return Fault(Failure.TRANSPORT_ERROR, said, Sign.BUSY, pause_s)
    if status >= 500 or status in (408, 409):
        return Fault(Failure.TRANSPORT_ERROR, said, Sign.SLOW if status in (408, 504) else Sign.ILL)
    return Fault(_objection(status, text), said, Sign.SILENT)


def _objection(status: int, text: str) -> Failure:
    """What the server has against a request, where it says so."""
    if "content_filter" in text or "content_policy" in text:
        return Failure.REFUSED
    too_long = status == 413 or (status == 400 and ("context" in text or "maximum" in text))
    return Failure.TRUNCATED if too_long else Failure.TRANSPORT_ERROR


def _media_type(reply: Reply) -> str:
    return reply.headers.get("content-type", "").split(";")[0].strip().lower()


def refusal(reply: Reply, base_url: str, key_env: str, model: str) -> EndpointError | None:
    """The error for a status that concerns every call, None for any other."""
    if reply.status == 200:
        return None
    text = reply.body[:4000].decode("utf-8", "replace")
    if 300 <= reply.status < 400:
        target = urlsplit(reply.headers.get("location", ""))
        where = f"{target.scheme}://{target.netloc}{target.path}" if target.netloc else target.path or "nowhere"
        remedy = f"it redirects to {where}; set base_url to the address that answers"
    elif reply.status == 429 and "insufficient_quota" in text:
        remedy = f"the account behind the key in {key_env} has no credit left"
    elif reply.status == 401:
        remedy = f"put a valid key into the environment variable {key_env}"
    elif reply.status == 403:
        remedy = f"the key in {key_env} may not use this model"
    elif reply.status in (404, 405):
        remedy = f"check base_url and the model name {model!r}"
    else:
        return None
    return EndpointError(f"{base_url} refuses the request (HTTP {reply.status}): {remedy}")


def brief(error: BaseException) -> str:
    """An error's first line, or its name where it says nothing."""
    text = str(error)
    return text.splitlines()[0][:300] if text else type(error).__name__


def _trust(base_url: str) -> ssl.SSLContext | bool:
    """The system's certificates and, where it has none, those of certifi."""
    if not base_url.startswith("https"):
        return True
    import certifi

    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _account() -> dict[str, str]:
    """Which organisation and project pays, from the variables that OpenAI's own clients read."""
    names = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
    return {header: value for header, name in names.items() if (value := os.environ.get(name, "").strip())}


def _proxy(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)
