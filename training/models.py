"""Load and save policies and reward models as plain Hugging Face folders.

Weights are float32 while training and go back to their own format when saved. Dropout is off everywhere:
log-probability ratios must be exactly 1 where the weights are the same. Only safetensors are read, and code that
comes with a model is never run. Left out: adapters (`adapters`), quantisation, models
that are no decoders.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
from transformers.utils import logging as transformers_logging

from ratify.errors import InputError
from ratify.files import flush
from training.encoding import Encoder

logger = logging.getLogger(__name__)

LoadedT = TypeVar("LoadedT")

COPIED_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
                "chat_template*", "generation_config.json")  # fmt: skip
"""What describes tokenizer and sampling: copied as it is, so that vLLM reads it as it read the original."""


def load_encoder(model: str) -> Encoder:
    """The model's tokenizer and chat template.

    Raises:
        InputError: the folder or name holds none.
    """
    tokenizer = _loading(model, lambda: AutoTokenizer.from_pretrained(model, trust_remote_code=False))
    return Encoder(cast(PreTrainedTokenizerBase, tokenizer), model)


def context_limit(model: str, max_length: int) -> int:
    """`max_length`, or the longest sequence that a model can read where that is shorter, which the log then says."""
    context = getattr(_config(model).get_text_config(), "max_position_embeddings", None)
    if not isinstance(context, int) or not 0 < context < max_length:
        return max_length
    logger.warning(
        "max_length is %d and %s reads %d tokens at most: longer rows are dropped", max_length, model, context
    )
    return context


def load_policy(model: str) -> PreTrainedModel:
    """A causal language model in float32 with dropout off.

    Raises:
        InputError: no such model, no safetensors, or no causal language model.
    """
    return _load(AutoModelForCausalLM, model)


def kind_of(model: str) -> Literal["policy", "reward"]:
    """Whether a folder holds a policy or a reward model, by the architecture that its configuration names."""
    architectures = _config(model).architectures or []
    return "reward" if any("SequenceClassification" in name for name in architectures) else "policy"


def load_reward_model(model: str) -> PreTrainedModel:
    """A trained reward model: sequence classification with one label.

    Raises:
        InputError: it has another number of labels or no linear `score` head.
    """
    loaded = _load(AutoModelForSequenceClassification, model)
    check_head(loaded, model)
    return loaded


def reward_model_from(model: str, encoder: Encoder, seed: int) -> PreTrainedModel:
    """A backbone with a fresh scalar head.

    Raises:
        InputError: Hugging Face has no sequence classification for the architecture.
    """
    loaded = _load(AutoModelForSequenceClassification, model, config=reward_config(model, encoder))
    check_head(loaded, model)
    draw_head(loaded, seed)
    return loaded


def reward_config(model: str, encoder: Encoder) -> PretrainedConfig:
    """A policy's configuration, as one of a model with a scalar head.

    Raises:
        InputError: Hugging Face has no sequence classification for the architecture.
    """
    config = _config(model)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise InputError(f"{model}: transformers has no sequence-classification class for {config.model_type!r} models")
    config.num_labels = 1
    config.pad_token_id = reward_pad(encoder)
    return config


def draw_head(model: PreTrainedModel, seed: int) -> None:
    """Give a scalar head fresh weights of standard deviation 1/√(H+1) (arXiv 1909.08593)."""
    generator = torch.Generator().manual_seed(seed)
    weight = cast(nn.Linear, model.score).weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1))


def reward_pad(encoder: Encoder) -> int | None:
    """A pad token that never ends a completion: Hugging Face reads the reward at the last token that is not pad."""
    tokenizer = encoder.tokenizer
    ends = {tokenizer.eos_token_id}
    if tokenizer.chat_template:
        ends.add(tokenizer.convert_tokens_to_ids(encoder.end_of_turn))
    specials = sorted(index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    candidates = [tokenizer.pad_token_id, tokenizer.unk_token_id, *specials]
    return next((token for token in candidates if token is not None and token not in ends), None)


def save_model(model: PreTrainedModel, source: str, encoder: Encoder, folder: Path) -> None:
    """Write weights, configuration, tokenizer, template and generation settings; the folder appears whole or not.

    Weights return to the format in which `source` keeps them.
    """
    model.to(_stored_dtype(source))
    write_folder(model, source, encoder, folder)


def write_folder(model: PreTrainedModel, source: str, encoder: Encoder, folder: Path) -> None:
    """As `save_model`, with the weights as they are."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    model.save_pretrained(temporary)
    if Path(source).is_dir():
        for pattern in COPIED_FILES:
            for file in Path(source).glob(pattern):
                shutil.copyfile(file, temporary / file.name)
    else:
        encoder.tokenizer.save_pretrained(temporary)
    for file in temporary.iterdir():
        flush(file)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that transformers never splits over devices, from the first to the last."""
    kinds = {name for part in model.modules() for name in (getattr(part, "_no_split_modules", None) or ())}
    return [part for part in model.modules() if type(part).__name__ in kinds]


def switch_off_dropout(model: nn.Module) -> None:
    """Set every dropout, modules and attention's own rates, to zero; the saved configuration keeps its values."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "attn_dropout", "resid_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def allow_recomputation(model: nn.Module) -> None:
    """Let every Hugging Face model in a module compute activations again in its backward pass, in training mode only.

    Raises:
        InputError: a model's family cannot.
    """
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and isinstance(getattr(part, part.base_model_prefix, None), nn.Module):
            if not part.supports_gradient_checkpointing:
                raise InputError(
                    f"models of the family {part.config.model_type!r} have no gradient checkpointing in transformers; "
                    "set gradient_checkpointing = false and lower tokens_per_micro_batch"
                )
            part.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _load(auto: Any, model: str, config: PretrainedConfig | None = None) -> PreTrainedModel:
    config = config or _config(model)
    options = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
    with _quiet_loading():
        loaded = _loading(model, lambda: auto.from_pretrained(model, config=config, **options))
    switch_off_dropout(loaded)
    return cast(PreTrainedModel, loaded)


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """No progress bar, and no alarm over a reward head that is meant to be new."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _config(model: str) -> PretrainedConfig:
    return cast(PretrainedConfig, _loading(model, lambda: AutoConfig.from_pretrained(model, trust_remote_code=False)))


def _stored_dtype(source: str) -> torch.dtype:
    stored = getattr(_config(source), "dtype", None)
    return stored if isinstance(stored, torch.dtype) else torch.float32


def _loading(model: str, load: Callable[[], LoadedT]) -> LoadedT:
    """Turn transformers' paragraphs into one sentence."""
    if Path(model).exists() and not (Path(model) / "config.json").is_file():
        raise InputError(f"{model} is not a Hugging Face model folder: it has no config.json")
    try:
        return load()
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"model {model} cannot be loaded: {first}") from error


def check_head(loaded: PreTrainedModel, model: str) -> None:
    """Make sure that a model is one that gives a single number.

    Raises:
        InputError: it is not.
    """
    head = getattr(loaded, "score", None)
    if not isinstance(head, nn.Linear) or head.out_features != 1:
        raise InputError(f"{model}: a reward model needs a linear `score` head with one label, which this one has not")
