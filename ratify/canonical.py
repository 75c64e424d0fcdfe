"""Content hashes: the canonical JSON form of a value, its SHA-256, and the hash of a file or a model folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

JsonValue = Mapping[str, "JsonValue"] | Sequence["JsonValue"] | str | int | float | bool | None

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
"""Made once: every question's key passes here."""
MODEL_FILES = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""What makes a model: weights, configuration, tokenizer and chat template, not logs or READMEs."""


def canonical_json(value: JsonValue) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return _CANONICAL.encode(value)


def digest(value: JsonValue) -> str:
    """SHA-256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def model_digest(model: str | Path) -> str:
    """SHA-256 over the files that make a model folder; a name that is no folder is hashed as a name."""
    folder = Path(model)
    if not folder.is_dir():
        return digest({"model": str(model)})
    files = sorted(path for path in folder.iterdir() if path.suffix in MODEL_FILES)
    return digest({path.name: file_digest(path) for path in files})
