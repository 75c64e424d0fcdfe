"""Is this a model that vLLM can serve as a chat model? Looked at before anything is started, because a start costs
seconds.

A hub name passes through: it cannot be checked without the network. Left out: whether vLLM supports the architecture.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ratify.errors import InputError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


def check_model(model: str, *, section: str, template_given: bool = False) -> None:
    """Refuse a folder that is missing, is no model or has no chat template.

    Args:
        model: a folder, or a hub name.
        section: `policy` or `judge`: whose setting the message names.
        template_given: whether the server gets its template by an argument of its own.

    Raises:
        InputError: with the setting to change.
    """
    folder = Path(model)
    if not folder.is_dir():
        if _is_path(model):
            raise InputError(f"{section}.model: no model folder {model}; correct the path or train the model first")
        return
    if not (folder / "config.json").is_file():
        raise InputError(f"{section}.model: {model} is not a Hugging Face model folder, because config.json is missing")
    if not any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        raise InputError(f"{section}.model: {model} holds no weights (*.safetensors); finish its training or download")
    if not template_given and not has_chat_template(folder):
        raise InputError(
            f"{section}.model: {model} has no chat template; put a chat_template.jinja into the folder "
            "or use a model tuned for chat"
        )


def has_chat_template(folder: Path) -> bool:
    """Whether any of the places that transformers reads holds a chat template."""
    if (folder / "chat_template.jinja").is_file() or next(folder.glob("additional_chat_templates/*.jinja"), None):
        return True
    return any(_has_key(folder / name) for name in ("chat_template.json", "tokenizer_config.json"))


def _has_key(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and bool(content.get("chat_template"))


def _is_path(model: str) -> bool:
    if Path(model).exists() or not HUB_NAME.fullmatch(model):
        return True
    first = model.partition("/")[0]
    return "/" in model and Path(first).is_dir()
