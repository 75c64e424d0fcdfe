"""LoRA: several models over one set of frozen weights, each with small trained matrices of its own (arXiv 2106.09685).

A model here is a tree of modules; its frozen parameters are the very tensors of the base, its adapter is its own. So
policy, critic and reward model of PPO are three trees over one base, and the reference, the policy with its adapter
switched off, is the base itself. Nothing is ever switched: no forward pass depends on which one ran before it. An
adapter is saved as peft saves its own, so peft reads it; it is merged into the weights for everybody else.

Left out: adapters on heads and embeddings, several adapters in one tree, quantised bases. peft is imported only where
an adapter is made, because that takes seconds.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ratify.canonical import digest, model_digest
from ratify.errors import InputError
from ratify.files import flush, write_json
from ratify.lora_section import LoraSection
from training.encoding import Encoder
from training.models import check_head, draw_head, reward_config, save_model
from training.scorers import OFFSET

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PEFT_PREFIX = "base_model.model."
_SCALE = "reward_scale"


def share(model: PreTrainedModel) -> PreTrainedModel:
    """A second tree of modules over the same parameters, with a configuration of its own."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def adapted(base: PreTrainedModel, lora: LoraSection, name: str, seed: int) -> PreTrainedModel:
    """A tree over the base's parameters, which are frozen from now on, with fresh adapters in its backbone.

    Args:
        base: a policy, or what `scalar_view` made of one.
        lora: rank, scale, places.
        name: of the adapter: `policy`, `value`, `reward`.
        seed: A is drawn from it and the name; B is zero, so the tree computes what the base does, bit for bit.

    Raises:
        InputError: no layer bears one of the names that `target_modules` wants.
    """
    from peft import LoraConfig, inject_adapter_in_model

    base.requires_grad_(False)
    tree = share(base)
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.strength, lora_dropout=0.0, target_modules=targets)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(digest(["adapter", name, seed])[:15], 16))
        try:
            inject_adapter_in_model(config, getattr(tree, tree.base_model_prefix), name)
        except ValueError as error:
            raise InputError(f"lora.target_modules = {targets!r} fits no linear layer of this model: {error}") from None
    if isinstance(head := getattr(tree, "score", None), nn.Linear):
        # A head of its own is small and new: it is trained whole.
        head.weight = nn.Parameter(head.weight.detach().clone())
    return tree


def trainable(model: PreTrainedModel, lora: LoraSection | None, name: str, seed: int) -> PreTrainedModel:
    """What is trained of a model: adapters over it where the section asks for them, else the model itself."""
    return model if lora is None else adapted(model, lora, name, seed)


def save_trained(model: PreTrainedModel, source: str, encoder: Encoder, folder: Path, lora: LoraSection | None) -> None:
    """Write a plain model folder that everybody reads, and before it the adapter that it was merged with."""
    if lora is None:
        save_model(model, source, encoder, folder)
        return
    save_adapter(model, source, lora, adapter_folder(folder))
    save_model(merged(model), source, encoder, folder)


def adapter_folder(folder: Path) -> Path:
    """Where the adapter of a merged model's folder lies: `model-adapter` beside `model`."""
    return folder.with_name(f"{folder.name}-adapter")


def scalar_view(policy: PreTrainedModel, source: str, encoder: Encoder, seed: int) -> PreTrainedModel:
    """A reward model or critic with a fresh head over a policy's own backbone.

    Raises:
        InputError: Hugging Face has no sequence classification for the architecture, or its backbone is another one.
    """
    config = reward_config(source, encoder)
    config._attn_implementation = policy.config._attn_implementation
    with torch.device("meta"):
        tree = cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(config))
    check_head(tree, source)
    shared = share(policy)
    backbone = getattr(shared, shared.base_model_prefix)
    if type(getattr(tree, tree.base_model_prefix)) is not type(backbone):
        raise InputError(f"{source}: its reward model has another backbone than its policy; train without lora")
    setattr(tree, tree.base_model_prefix, backbone)
    cast(Any, tree).score = nn.Linear(config.hidden_size, 1, bias=False, device=policy.device)
    draw_head(tree, seed)
    return tree.eval()


def merged(tree: PreTrainedModel) -> PreTrainedModel:
    """The plain model that a tree computes, W + scale·B·A, in tensors of its own."""
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(tree)
    for path, layer in list(plain.named_modules()):
        if isinstance(layer, LoraLayer):
            cast(Any, layer).merge()
            plain.set_submodule(path, cast(nn.Module, cast(Any, layer).get_base_layer()))
    return plain


def own_tensors(tree: nn.Module) -> dict[str, Tensor]:
    """What a tree does not share with its base, by name."""
    return {name: parameter.detach() for name, parameter in tree.named_parameters() if parameter.requires_grad}


def save_adapter(tree: PreTrainedModel, source: str, lora: LoraSection, folder: Path) -> None:
    """Write an adapter as peft does; the folder appears whole or not.

    Beside its tensors it keeps the hash of the base that it belongs to and a reward's constant and scale.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {_public(name): value.cpu().contiguous() for name, value in own_tensors(tree).items()}
    notes = {key: repr(float(getattr(tree.config, key))) for key in (OFFSET, _SCALE) if hasattr(tree.config, key)}
    save_file(tensors, temporary / _WEIGHTS, metadata={"format": "pt", "base": model_digest(source), **notes})
    scalar = hasattr(tree, "score")
    paths = {name.split(".lora_")[0] for name in tensors if ".lora_" in name}
    write_json(
        temporary / _CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "SEQ_CLS" if scalar else "CAUSAL_LM",
            "base_model_name_or_path": source,
            "r": lora.rank,
            "lora_alpha": lora.strength,
            "lora_dropout": 0.0,
            "target_modules": sorted(path.removeprefix(_PEFT_PREFIX) for path in paths),
            "modules_to_save": ["score"] if scalar else None,
            "bias": "none",
            "inference_mode": True,
        },
    )
    for file in temporary.iterdir():
        flush(file)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def adapter_beside(model: str, source: str) -> Path | None:
    """The adapter that a merged model was made of, if it belongs to the base `source`."""
    folder = adapter_folder(Path(model))
    if not Path(model).is_dir() or not (folder / _WEIGHTS).is_file():
        return None
    with safe_open(folder / _WEIGHTS, framework="pt") as file:
        notes = file.metadata() or {}
    return folder if notes.get("base") == model_digest(source) else None


def load_scalar_adapter(base: PreTrainedModel, folder: Path, name: str) -> PreTrainedModel:
    """A reward model over the base of `scalar_view`, with the adapter, head, constant and scale that were saved.

    Raises:
        InputError: the adapter's tensors are not those that its configuration promises.
    """
    settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    backbone = f"{base.base_model_prefix}."
    lora = LoraSection(
        rank=settings["r"],
        alpha=settings["lora_alpha"],
        target_modules=tuple(path.removeprefix(backbone) for path in settings["target_modules"]),
    )
    tree = adapted(base, lora, name, seed=0)
    saved, own = load_file(folder / _WEIGHTS), own_tensors(tree)
    if set(saved) != {_public(key) for key in own}:
        raise InputError(f"adapter {folder} does not fit the model it is to be put on; train it again")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(saved[_public(key)])
    with safe_open(folder / _WEIGHTS, framework="pt") as file:
        notes = file.metadata() or {}
    for key in (OFFSET, _SCALE):
        if key in notes:
            setattr(tree.config, key, float(notes[key]))
    return tree


def _public(name: str) -> str:
    """A parameter's name as peft writes it: without the adapter's own name."""
    for matrix in (".lora_A.", ".lora_B."):
        if matrix in name:
            path, rest = name.split(matrix)
            name = f"{path}{matrix}{rest.split('.', 1)[1]}"
    return _PEFT_PREFIX + name
