"""Whether a model can take the prefix tree: its configuration is read, then it is tried on a few tokens.

The fall-back is the padded layout, with the reason in the log. Left out: making such models work with a tree.
"""

from __future__ import annotations

import inspect
import logging

import torch
from transformers import PretrainedConfig, PreTrainedModel

from ratify.errors import TrainingError
from training.data import Element
from training.scorers import PolicyScorer, hidden_states
from training.tree import Layout, token_batch

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3
"""Largest relative difference that rounding in bfloat16 or float32 on tiny inputs explains with room to spare."""


def choose_layout(model: PreTrainedModel, wanted: Layout, max_length: int) -> Layout:
    """The wanted layout, or `padded` with a line in the log when the model cannot take a tree."""
    if wanted == "padded":
        return "padded"
    reason = configuration_obstacle(model.config, max_length) or _probe_obstacle(model)
    if reason is None:
        return "tree"
    logger.warning("layout: padded instead of tree, because %s", reason)
    return "padded"


def configuration_obstacle(config: PretrainedConfig, max_length: int) -> str | None:
    """Why the configuration rules a tree out, or None. A sliding window longer than any sequence does no harm."""
    kinds = set(getattr(config, "layer_types", None) or ())
    if linear := kinds - {"full_attention", "sliding_attention"}:
        return f"the model has layers of kind {', '.join(sorted(linear))}"
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds or (not kinds and getattr(config, "use_sliding_window", True))
    if window and slides and window < max_length:
        return f"the model attends within a window of {window} tokens and max_length is {max_length}"
    return None


def _probe_obstacle(model: PreTrainedModel) -> str | None:
    """Compare hidden states of both layouts on a few tokens."""
    backbone = getattr(model, model.base_model_prefix)
    if "position_ids" not in inspect.signature(backbone.forward).parameters:
        return "the model takes no positions from outside"
    probe = _probe(model)
    try:
        with torch.no_grad():
            tree, padded = (_last_states(model, probe, layout) for layout in ("tree", "padded"))
    except (TypeError, ValueError, RuntimeError) as error:
        return f"the model refuses an attention mask of our own ({error})"
    gap = float((tree - padded).norm() / padded.norm())
    return None if gap <= _TOLERANCE else f"its hidden states then differ by {gap:.1e} relative"


def check_logits(scorer: PolicyScorer) -> None:
    """Compare our head with the model's own logits, to catch families that change logits in ways unknown here.

    Raises:
        TrainingError: they differ.
    """
    batch = token_batch([_probe(scorer.model)], "padded").to(scorer.model.device)
    with torch.no_grad():
        ours = scorer.logits(hidden_states(scorer.model, batch))
        theirs = scorer.model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask).logits
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        family = scorer.model.config.model_type
        raise TrainingError(f"models of the family {family!r} change their logits in a way unknown to training")


def _probe(model: PreTrainedModel) -> Element:
    """Four prompt tokens and two completions, of ids spread over the vocabulary."""
    spread = [(7 * index + 3) % model.config.get_text_config().vocab_size for index in range(9)]
    return Element("probe", tuple(spread[:4]), (tuple(spread[4:7]), tuple(spread[7:])))


def _last_states(model: PreTrainedModel, probe: Element, layout: Layout) -> torch.Tensor:
    batch = token_batch([probe], layout).to(model.device)
    return hidden_states(model, batch).flatten(0, 1).index_select(0, batch.last_N).float()
