"""Where a model answers, as configuration: a vLLM server that the run starts, or servers that are there.

No field holds a secret, and one that is given one is refused without repeating it. Left out: what is asked of the
model (`sections.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """A frozen section that refuses unknown keys; its errors do not repeat values, one of which may be a key."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class EngineSection(Section):
    """The vLLM server that a run starts for a local model and stops again."""

    python: Path | None = None
    """Interpreter of the environment that holds vLLM; None means this one."""
    host: str = "127.0.0.1"
    """Address the server binds to."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port; 0 takes a free one."""
    dtype: str = "auto"
    """Number format of weights and activations, as vLLM names it."""
    max_model_len: int | None = Field(default=None, gt=0)
    """Longest prompt plus completion in tokens; None takes the model's own."""
    max_num_seqs: int = Field(default=256, gt=0)
    """Sequences computed at once."""
    block_size: int | None = Field(default=None, gt=0)
    """Tokens per cache block; prompts shorter than one block never hit the prefix cache."""
    kv_cache_gib: float | None = Field(default=None, gt=0)
    """CPU only: memory for the key-value cache in GiB."""
    enforce_eager: bool = False
    """Skip compilation: slower tokens, faster start."""
    threads: int | None = Field(default=None, gt=0)
    """CPU only: OpenMP threads; None leaves it to vLLM."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you have read that code."""
    extra_args: tuple[str, ...] = ()
    """Further arguments for vLLM's server, as on its command line."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    """Give up when the server is not healthy after this many seconds."""

    @field_validator("extra_args")
    @classmethod
    def _without_key(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        if any(argument.split("=")[0] == "--api-key" for argument in arguments):
            raise ValueError(
                "--api-key would show the key in files and process lists; put it into the environment variable "
                "VLLM_API_KEY, which vLLM reads, and set api_key_env = 'VLLM_API_KEY'"
            )
        if any(argument.split("=")[0].replace("_", "-") == "--trust-remote-code" for argument in arguments):
            raise ValueError(
                "--trust-remote-code runs code that comes with a model: set engine.trust_remote_code = true"
            )
        return arguments


class EndpointSection(Section):
    """Where a model answers: a model that vLLM serves for us, or any OpenAI-compatible server by `base_url`."""

    model: str
    """Folder or hub name of a Hugging Face causal LM, or the served model's name."""
    base_url: str | None = None
    """An OpenAI-compatible server, such as http://127.0.0.1:8000/v1, or a list of servers of the same model, of which
    the first names the model in what is stored; None starts a managed vLLM server."""
    replicas: tuple[str, ...] = ()
    """The servers after the first, when `base_url` is given as a list. Adding one asks nothing anew."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself never enters a file."""
    concurrency: int = Field(default=64, gt=0)
    """Most requests in flight, over all servers; fewer while a server shows that it has too many."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Give up on one attempt of a request after this many seconds."""
    total_timeout_s: float = Field(default=600.0, gt=0)
    """Give up on a request with all its attempts and pauses after this many seconds."""
    max_retries: int = Field(default=4, ge=0)
    """Retries after transport errors, 429 and 5xx (answers that cannot be read: at most 2), with growing pauses drawn
    at random."""
    engine: EngineSection = EngineSection()
    """The managed server; unused when `base_url` is set."""

    @model_validator(mode="before")
    @classmethod
    def _split_servers(cls, values: Any) -> Any:
        """A list of servers becomes the first and its replicas."""
        urls = values.get("base_url") if isinstance(values, Mapping) else None
        if not isinstance(urls, list | tuple):
            return values
        if not urls:
            raise ValueError("base_url is an empty list; name at least one server, or leave it out")
        return {**values, "base_url": urls[0], "replicas": tuple(urls[1:])}

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        return None if url is None else _checked_url(url)

    @field_validator("replicas")
    @classmethod
    def _plain_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked_url(url) for url in urls)

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("must name an environment variable, such as OPENAI_API_KEY; the key itself goes nowhere")
        return name

    @model_validator(mode="after")
    def _distinct_servers(self) -> EndpointSection:
        if self.replicas and (self.base_url is None or len({self.base_url, *self.replicas}) <= len(self.replicas)):
            raise ValueError("base_url names the same server twice, or replicas are given without it")
        return self


def _checked_url(url: str) -> str:
    """An address without secrets."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) address such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not carry a key or a password; put the key into the variable that api_key_env names")
    return url
