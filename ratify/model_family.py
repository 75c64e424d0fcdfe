"""Model families, so that no judge is asked about replies of its own kin.

A judge prefers what its own family writes (self-preference; measured in `judges/bias.py`). The family of a local folder
is read off its config.json, that of any other model off its name, by a list of lines of models. A name that says
nothing is a family of its own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ratify.errors import ConfigError

_FAMILIES = {
    "gpt": ("gpt", "chatgpt", "davinci"),
    "llama": ("llama", "vicuna", "alpaca", "tulu"),
    "mistral": ("mistral", "mixtral", "ministral", "zephyr"),
    "qwen": ("qwen", "qwq"),
    "gemma": ("gemma", "gemini"),
} | {
    name: (name,)
    for name in (
        "claude", "phi", "deepseek", "falcon", "olmo", "yi", "command", "granite", "smollm", "pythia", "internlm",
        "glm", "grok",
    )
}  # fmt: skip
"""Families by how a word of their members' names begins."""


def model_family(name: str) -> str:
    """The family of a model, such as `qwen` for `Qwen/Qwen2.5-0.5B-Instruct`; empty for an empty name."""
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    words = re.findall(r"[a-z]+", _stated_type(name) or last)
    if words[:1] == ["o"]:
        return "gpt"
    return next((family for family, begins in _FAMILIES.items() if any(w.startswith(begins) for w in words)), last)


def require_other_family(judge: str, policy: str) -> None:
    """Refuse a judge of the policy's family; both by model name or folder.

    Raises:
        ConfigError: they are of one family.
    """
    family = model_family(judge)
    if family and family == model_family(policy):
        raise ConfigError(
            f"judge.model {judge} and policy.model {policy} are of one family ({family}), and a judge prefers its own; "
            "take a judge of another family, or set judge.forbid_policy_family = false"
        )


def _stated_type(name: str) -> str:
    """The model type that a local folder's config.json states."""
    config = Path(name) / "config.json"
    if not name or not config.is_file():
        return ""
    try:
        return str(json.loads(config.read_text(encoding="utf-8")).get("model_type", "")).lower()
    except (OSError, ValueError, AttributeError):
        return ""
