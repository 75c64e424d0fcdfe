"""One client for every OpenAI-compatible server: the `openai` SDK on its aiohttp transport, one long-lived session.

It sends one chat request and gives back what a judge or a sampler needs. Transport errors, 429 and 5xx are retried by
the SDK with growing pauses and Retry-After; what still fails is a `CallFailed`, which the caller keeps as data. A
refused key or an unknown model concerns every call, so it is an `EndpointError`. Left out: routing over several
endpoints, adaptive concurrency.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ratify.errors import EndpointError
from ratify.sections import EndpointSection
from ratify.types import Failure, Message

if TYPE_CHECKING:
    from openai import AsyncOpenAI

RAW_LIMIT = 2000
"""Characters of a rubbish answer that are kept."""


class ChatAnswer(NamedTuple):
    """A server's answer to one chat request."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    first_token: dict[str, float] | None
    """Natural-log probabilities of the most likely first tokens by token text; None when not asked for or not given."""
    token_ids: tuple[int, ...] | None = None
    """The sampled tokens; None when not asked for or not given."""


class CallFailed(Exception):
    """One request gave no usable answer; `failure` names why and `raw` keeps what came back."""

    def __init__(self, failure: Failure, raw: str) -> None:
        super().__init__(f"{failure}: {raw[:200]}")
        self.failure = failure
        self.raw = raw[:RAW_LIMIT]


class ChatClient:
    """Requests to one model behind one endpoint. Use it as an async context manager."""

    def __init__(self, endpoint: EndpointSection, base_url: str, model: str) -> None:
        self.base_url = base_url
        self.model = model
        self._endpoint = endpoint
        self._sdk = _open(endpoint, base_url)

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._sdk.close()

    async def check(self) -> None:
        """Ask the server which models it serves.

        Raises:
            EndpointError: it is down, refuses the key, answers rubbish, or does not serve the model.
        """
        import openai

        try:
            listed = await self._sdk.with_options(max_retries=1, timeout=20).models.list()
            names = [model.id for model in listed.data]
        except openai.APIStatusError as error:
            raise self._fatal(error) from None
        except openai.APIConnectionError:
            raise EndpointError(f"no server answers at {self.base_url}; start it or correct base_url") from None
        except Exception as error:
            raise EndpointError(
                f"{self.base_url} answers, but not as an OpenAI-compatible server ({_brief(error)})"
            ) from None
        if self.model not in names:
            raise EndpointError(
                f"{self.base_url} does not serve {self.model!r}; it serves: {', '.join(names) or 'nothing'}"
            )

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
        import aiohttp
        import openai

        request: dict[str, Any] = {
            "model": self.model,
            "messages": [message.model_dump() for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
        }
        if seed is not None:
            request["seed"] = seed
        if top_logprobs:
            request |= {"logprobs": True, "top_logprobs": top_logprobs}
        try:
            # The typed method checks every parameter and builds typed answers: twice the processor time for what is
            # a plain dictionary on both sides. `post` keeps the SDK's retries, transport and errors.
            answer = await self._sdk.post("/chat/completions", cast_to=object, body={**request, **(extra_body or {})})
        except openai.APIStatusError as error:
            raise self._status(error) from None
        except openai.APIConnectionError as error:
            raise CallFailed(Failure.TRANSPORT_ERROR, _brief(error)) from None
        except aiohttp.ClientError as error:
            raise CallFailed(Failure.TRANSPORT_ERROR, _brief(error)) from None
        except (openai.OpenAIError, ValueError) as error:
            raise CallFailed(Failure.PARSE_ERROR, _rubbish(error)) from None
        return _read(answer)

    def _status(self, error: Any) -> Exception:
        status = int(error.status_code)
        if status in (401, 403, 404):
            return self._fatal(error)
        text = str(error.message)
        if status == 400 and ("context" in text or "maximum" in text):
            return CallFailed(Failure.TRUNCATED, text)
        if status < 500 and status not in (408, 409, 429):
            return self._fatal(error)
        return CallFailed(Failure.TRANSPORT_ERROR, f"HTTP {status}: {text}")

    def _fatal(self, error: Any) -> EndpointError:
        status = int(error.status_code)
        key = self._endpoint.api_key_env
        remedy = {
            401: f"put a valid key into the environment variable {key}",
            403: f"the key in {key} may not use this model",
            404: f"check base_url and the model name {self.model!r}",
        }.get(status, str(error.message)[:300])
        return EndpointError(f"{self.base_url} refuses the request (HTTP {status}): {remedy}")


def _open(endpoint: EndpointSection, base_url: str) -> AsyncOpenAI:
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient

    limits = httpx2.Limits(max_connections=endpoint.concurrency, max_keepalive_connections=endpoint.concurrency)
    return AsyncOpenAI(
        base_url=base_url,
        api_key=os.environ.get(endpoint.api_key_env) or "none",
        timeout=endpoint.timeout_s,
        max_retries=endpoint.max_retries,
        http_client=DefaultAioHttpClient(limits=limits),
    )


def _read(answer: Any) -> ChatAnswer:
    """Take apart a completion; anything that is not one is a parse error with its raw text."""
    try:
        choice = answer["choices"][0]
        message, usage = choice["message"], answer.get("usage") or {}
        refusal = message.get("refusal")
        return ChatAnswer(
            text=str(message.get("content") or refusal or ""),
            finish_reason="content_filter" if refusal else str(choice.get("finish_reason") or ""),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            first_token=_first_token(choice.get("logprobs")),
            token_ids=tuple(choice["token_ids"]) if choice.get("token_ids") else None,
        )
    except (AttributeError, TypeError, LookupError, ValueError):
        raise CallFailed(Failure.PARSE_ERROR, str(answer)) from None


def _first_token(logprobs: Any) -> dict[str, float] | None:
    """The alternatives of the first token; a server that lists none gives at least the token that it chose."""
    if not logprobs or not logprobs.get("content"):
        return None
    token = logprobs["content"][0]
    found: dict[str, float] = {}
    for item in token.get("top_logprobs") or [token]:
        # Two tokens can share a text, as fragments of a character do: their probabilities add up.
        text, value = str(item["token"]), float(item["logprob"])
        found[text] = value if text not in found else _log_add(found[text], value)
    return found


def _log_add(one: float, other: float) -> float:
    """log(exp(one) + exp(other)) for log-probabilities."""
    high, low = max(one, other), min(one, other)
    return high + math.log1p(math.exp(low - high))


def _rubbish(error: Exception) -> str:
    """The text that could not be read, as far as the error kept it, and why."""
    text = getattr(error, "doc", None) or getattr(error, "object", None) or ""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return f"{_brief(error)}: {shown}" if shown else _brief(error)


def _brief(error: BaseException) -> str:
    cause = error.__cause__
    text = f"{error}" + (f": {cause}" if cause else "")
    return text.splitlines()[0][:300] if text else type(error).__name__
