"""What a judge's server can do, found out by tiny requests before the first question: log-probabilities and how many,
schemas, continuing a message, seeds.

Only what the chosen read-out needs is asked, one to three requests of a few tokens, once per server, model and
settings in a process. When something is missing, everything else is asked too, so that the one sentence of refusal
names the read-outs that the server can do. The configuration stays the truth about how a judge asks: a probe never
changes a request silently, so what is in a judge's fingerprint is what was sent. A server that gives fewer
log-probabilities than asked for is accepted; its answers are as they are.

Left out: whether a seed is honoured; two equal texts would not prove it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Literal

from judges.readouts.json_answer import schema_body
from judges.readouts.turns import CONTINUE, continued, continues
from ratify.canonical import JsonValue
from ratify.client import CallFailed, ChatAnswer, ChatClient
from ratify.errors import EndpointError
from ratify.sections import JudgeSection, ReadoutName
from ratify.types import Message, Record

Feature = Literal["logprobs", "response_format", "structured_outputs", "prefill", "seed"]
FEATURES: tuple[Feature, ...] = ("logprobs", "response_format", "structured_outputs", "prefill", "seed")
_FEWER = 5
"""What OpenAI-compatible servers that refuse 20 log-probabilities usually allow."""
_ASKED = (Message(role="user", content="Is water wet? Answer Yes or No."),)
_SCHEMA: JsonValue = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["Yes", "No"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
_known: dict[tuple[str, str, str], Capabilities] = {}


class Capabilities(Record):
    """What was found out; None is what was not asked."""

    top_logprobs: int | None = None
    """Log-probabilities of the first token that the server gives when `judge.top_logprobs` are asked for."""
    fewer_logprobs: int | None = None
    """How many it gives when 5 are asked for; asked only when it refuses the number wanted."""
    response_format: bool | None = None
    structured_outputs: bool | None = None
    prefill: bool | None = None
    """Whether it continues the last message instead of answering it."""
    seed: bool | None = None
    """Whether it takes one; not whether it honours it."""

    def sentence(self) -> str:
        """The findings for a log."""
        found = {name: value for name, value in self.model_dump().items() if value is not None}
        return ", ".join(f"{name} {_shown(value)}" for name, value in found.items())


def needed(section: JudgeSection) -> tuple[Feature, ...]:
    """What the read-out of a section needs of its server."""
    more: tuple[Feature, ...] = ("prefill",) if continues(section) else ()
    needs: dict[ReadoutName, tuple[Feature, ...]] = {
        "logprobs": ("logprobs",),
        "score": ("logprobs", *more),
        "reasoning": ("logprobs", *more),
        "json": ("structured_outputs",) if section.schema_form == "structured_outputs" else ("response_format",),
        "samples": ("seed",),
    }
    return needs[section.readout]


async def require_readout(client: ChatClient, section: JudgeSection) -> Capabilities:
    """Probe what the section's read-out needs, once per server, model and settings.

    Raises:
        EndpointError: the server cannot do it, with what it can do; or it answers nothing at all.
    """
    asked = (client.base_url, client.model, section.model_dump_json(include=set(_PROBED)))
    if asked not in _known:
        found = await probe(client, section, needed(section))
        if missing(section, found):
            await _require_any_answer(client)
            found = await probe(client, section, FEATURES)
            raise EndpointError(_refusal(client, section, found))
        _known[asked] = found
    return _known[asked]


async def probe(client: ChatClient, section: JudgeSection, features: tuple[Feature, ...]) -> Capabilities:
    """Ask about some features."""
    found: dict[str, int | bool | None] = {}
    for feature in features:
        if feature == "logprobs":
            found |= await _logprobs(client, section.top_logprobs)
        else:
            found[feature] = await _PROBES[feature](client)
    return Capabilities.model_validate(found)


def missing(section: JudgeSection, found: Capabilities) -> list[Feature]:
    """What the read-out needs and the server lacks."""
    return [feature for feature in needed(section) if not _has(found, feature)]


def possible(section: JudgeSection, found: Capabilities) -> list[str]:
    """The read-outs that a server can do, as settings, in the order in which they are to be preferred."""
    settings: list[str] = []
    number = f" with judge.top_logprobs = {_FEWER}" if not found.top_logprobs else ""
    if found.top_logprobs or found.fewer_logprobs:
        turn = " with judge.answer_turn = 'turn'" if not found.prefill and continues(section) else ""
        both = " and".join(part for part in (number, turn) if part).replace(" and with", " and")
        settings += [f"'logprobs'{number}"]
        settings += [f"'reasoning'{both}"] if section.protocol != "ranking" else []
        settings += [f"'score'{both}"] if section.protocol == "pointwise" else []
    if found.response_format:
        settings.append("'json'")
    elif found.structured_outputs:
        settings.append("'json' with judge.schema_by = 'structured_outputs'")
    return settings + (["'samples'"] if found.seed and section.protocol != "ranking" else [])


def _has(found: Capabilities, feature: Feature) -> bool:
    return bool(found.top_logprobs if feature == "logprobs" else getattr(found, feature))


def _refusal(client: ChatClient, section: JudgeSection, found: Capabilities) -> str:
    lacks = {
        "logprobs": f"gives no {section.top_logprobs} log-probabilities",
        "response_format": "follows no schema by response_format",
        "structured_outputs": "follows no schema by structured_outputs",
        "prefill": "does not continue a message",
        "seed": "takes no seed",
    }
    why = " and ".join(lacks[feature] for feature in missing(section, found)) or "changed its mind while it was asked"
    can = possible(section, found)
    remedy = f"set judge.readout to one that it can do: {', '.join(can)}" if can else "use another server"
    return f"{client.base_url} cannot do judge.readout = '{section.readout}' for {client.model!r}: it {why}; {remedy}"


async def _require_any_answer(client: ChatClient) -> None:
    try:
        await client.chat(_ASKED, max_tokens=1, temperature=0)
    except CallFailed as failed:
        raise EndpointError(
            f"{client.base_url} does not answer a request of one token ({failed}); mend the server or correct base_url"
        ) from None


async def _logprobs(client: ChatClient, wanted: int) -> dict[str, int | bool | None]:
    given = await _count_logprobs(client, wanted)
    if given or wanted <= _FEWER:
        return {"top_logprobs": given}
    return {"top_logprobs": 0, "fewer_logprobs": await _count_logprobs(client, _FEWER)}


async def _count_logprobs(client: ChatClient, wanted: int) -> int:
    """How many alternatives come back; one alone is only the token itself."""
    answer = await _tried(client.chat(_ASKED, max_tokens=1, temperature=0, top_logprobs=wanted))
    first = (answer.first_token if answer else None) or {}
    usable = [value for value in first.values() if not math.isnan(value) and value <= 1e-3]
    return len(first) if len(usable) == len(first) > 1 else 0


async def _response_format(client: ChatClient) -> bool:
    return await _follows_schema(client, "response_format")


async def _structured_outputs(client: ChatClient) -> bool:
    return await _follows_schema(client, "structured_outputs")


async def _follows_schema(client: ChatClient, form: str) -> bool:
    """An answer that was cut off is judged by its beginning."""
    body = schema_body(_SCHEMA, form)
    answer = await _tried(client.chat(_ASKED, max_tokens=64, temperature=0, extra_body=body))
    if answer is None:
        return False
    try:
        return set(json.loads(answer.text)) == {"answer"}
    except (ValueError, TypeError):
        return answer.finish_reason == "length" and answer.text.lstrip().startswith("{")


async def _prefill(client: ChatClient) -> bool:
    """A server that ignores the request closes the message and opens another, which costs more prompt tokens."""
    messages = continued(_ASKED, "Answer:")
    ended = await _tried(client.chat(messages, max_tokens=1, temperature=0))
    open_ended = await _tried(client.chat(messages, max_tokens=1, temperature=0, extra_body=CONTINUE))
    if open_ended is None:
        return False
    return ended is None or open_ended.prompt_tokens < ended.prompt_tokens


async def _seed(client: ChatClient) -> bool:
    return await _tried(client.chat(_ASKED, max_tokens=1, temperature=1, seed=1)) is not None


async def _tried(call: Awaitable[ChatAnswer]) -> ChatAnswer | None:
    """None where the server refuses what it was asked for."""
    try:
        return await call
    except (CallFailed, EndpointError):
        return None


def _shown(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


_PROBED = ("readout", "protocol", "top_logprobs", "answer_turn", "schema_by", "base_url")
"""The settings that decide what is probed."""
_PROBES: dict[Feature, Callable[[ChatClient], Awaitable[bool]]] = {
    "response_format": _response_format,
    "structured_outputs": _structured_outputs,
    "prefill": _prefill,
    "seed": _seed,
}
