"""Model families, so that no judge is asked about replies of its own kin.

A judge prefers what its own family writes (self-preference; measured in `bias.py`), so a judge of the policy's family
is refused. The family is read off the model's name: the last part of a hub name or path up to the first digit or
separator, where a few lines of models with other names are known. A name that says nothing is a family of its own.
"""

from __future__ import annotations

import re

from ratify.errors import ConfigError

_KNOWN = {
    "gpt": ("gpt", "chatgpt", "davinci", "o"),
    "llama": ("llama", "meta", "vicuna", "alpaca", "tulu"),
    "mistral": ("mistral", "mixtral", "ministral", "zephyr"),
    "qwen": ("qwen", "qwq"),
    "gemma": ("gemma", "gemini"),
    "claude": ("claude",),
}
"""Families by the words their members' names begin with."""


def model_family(name: str) -> str:
    """The family of a model by its name, such as `qwen` for `Qwen/Qwen2.5-0.5B-Instruct`."""
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    word = re.split(r"[^a-z]", last, maxsplit=1)[0]
    return next((family for family, words in _KNOWN.items() if word in words), word or last)


def require_other_family(judge: str, policy: str) -> None:
    """Refuse a judge of the policy's family; both by model name.

    Raises:
        ConfigError: they are of one family.
    """
    family = model_family(judge)
    if family == model_family(policy):
        raise ConfigError(
            f"judge.model {judge} and policy.model {policy} are of one family ({family}), and a judge prefers its own; "
            f"take a judge of another family"
        )
