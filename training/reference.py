"""Log-probabilities under the reference policy: computed once before training, kept under their content's hash.

Training then needs no second model and no second forward pass. The hash covers model, tokens, temperature and number
format, so a file can never answer for other data; it is written whole or not at all. Left out: references that
change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ratify.canonical import digest
from ratify.files import replacing
from training.data import Element
from training.engine import Engine
from training.first import Held, from_first
from training.scorers import PolicyScorer


def reference_logprobs(
    engine: Engine, scorer: PolicyScorer, elements: Sequence[Element], model_hash: str, folder: Path
) -> list[Tensor]:
    """Summed log-probabilities of each element's completions under the model as it is now.

    Args:
        engine: computes and knows number format and layout.
        scorer: the policy before its first update.
        elements: the data.
        model_hash: `ratify.canonical.model_digest` of the policy.
        folder: where `reference-<hash>.safetensors` is kept.

    Returns:
        For each element a tensor (K,) in nats.
    """
    mark = content_hash(elements, model_hash, scorer.temperature, engine.section.dtype)
    path = folder / f"reference-{mark}.safetensors"
    sizes = [len(element.completions) for element in elements]
    kept = from_first(lambda: Held({}, load_file(path)) if path.is_file() else None)
    if kept is not None:
        return list(torch.split(kept.tensors["logprob_N"], sizes))
    found = engine.score(engine.prepare(scorer), elements, lambda output: output.sum_N, phase="reference")
    if engine.is_main:
        with replacing(path) as temporary:
            save_file({"logprob_N": torch.cat(found)}, temporary)
    return found


def content_hash(elements: Sequence[Element], model_hash: str, temperature: float, dtype: str) -> str:
    """Hash of everything that the log-probabilities depend on, 16 hexadecimal digits."""
    tokens = hashlib.sha256()
    for element in elements:
        tokens.update(repr((element.prompt, element.completions)).encode())
    return digest({"model": model_hash, "tokens": tokens.hexdigest(), "temperature": temperature, "dtype": dtype})[:16]
