"""Whether a model can take the prefix tree: its configuration is read, then it is tried on a few tokens.

Three layouts are tried, the fastest first: `packed`, with the attention of `tree_attention`, for models on
transformers' attention interface; `tree`, with a mask, for the others; `padded` where neither gives the hidden states
of separate sequences. The choice is in the log with its reason. Left out: making such models work with a tree.
"""

from __future__ import annotations

import inspect
import logging
from typing import Literal

import torch
from transformers import PretrainedConfig, PreTrainedModel

from ratify.errors import TrainingError
from training.data import Element
from training.scorers import PolicyScorer, hidden_states
from training.tree import Layout, token_batch
from training.tree_attention import ATTENTION, attention_of, backbone_of, register, set_attention, trim_last_layer

logger = logging.getLogger(__name__)

WAY = {
    "cpu": "attention by branches, because a CPU computes nothing but what a completion sees and minds no small calls",
    "cuda": "FlexAttention, because on CUDA one kernel that skips hidden blocks beats many small calls",
}
_TOLERANCE = 1e-3
"""Largest relative difference that rounding in bfloat16 or float32 on tiny inputs explains with room to spare."""


def choose_layout(model: PreTrainedModel, wanted: Literal["tree", "padded"], max_length: int) -> Layout:
    """The fastest layout that the model can take, `padded` if that is wanted; what and why goes to the log.

    A model that takes the packed layout has another attention and a trimmed last layer afterwards, which change nothing
    outside that layout.
    """
    if wanted == "padded":
        return "padded"
    if reason := configuration_obstacle(model.config, max_length):
        logger.warning("layout: padded instead of a tree, because %s", reason)
        return "padded"
    obstacle = _packing_obstacle(model)
    if obstacle is None:
        logger.info("layout: prefix trees packed in rows; %s", WAY["cuda" if torch.cuda.is_available() else "cpu"])
        return "packed"
    if reason := _probe_obstacle(model, "tree"):
        logger.warning("layout: padded instead of a tree, because %s", reason)
        return "padded"
    logger.info("layout: one row for each prefix tree, because %s", obstacle)
    return "tree"


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


def _packing_obstacle(model: PreTrainedModel) -> str | None:
    """Why the model cannot take packed trees, or None; then its attention is that of `tree_attention`."""
    before = attention_of(model)
    if before == ATTENTION:
        return None
    if before != "sdpa" or not getattr(model, "_supports_attention_backend", False):
        return f"its attention ({before}) cannot be replaced by one that knows trees"
    register()
    set_attention(model, ATTENTION)
    if reason := _probe_obstacle(model, "packed"):
        set_attention(model, before)
        return reason
    trimming = trim_last_layer(backbone_of(model))
    if reason := _probe_obstacle(model, "packed"):
        logger.info("layout: the last layer is computed whole, because %s when it is computed by rows", reason)
        for handle in trimming:
            handle.remove()
    return None


def _probe_obstacle(model: PreTrainedModel, layout: Layout) -> str | None:
    """Compare hidden states of a layout with those of padded rows on a few tokens."""
    if "position_ids" not in inspect.signature(backbone_of(model).forward).parameters:
        return "the model takes no positions from outside"
    try:
        with torch.no_grad():
            tree, padded = (_last_states(model, each) for each in (layout, "padded"))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        return f"the model refuses an attention mask of our own ({error})"
    gap = float((tree - padded).norm() / padded.norm())
    return None if gap <= _TOLERANCE else f"its hidden states then differ by {gap:.1e} relative"


def check_logits(scorer: PolicyScorer) -> None:
    """Compare our head with the model's own logits, to catch families that change logits in ways unknown here.

    Raises:
        TrainingError: they differ.
    """
    batch = token_batch(_probe(scorer.model), "padded").to(scorer.model.device)
    with torch.no_grad():
        ours = scorer.logits(hidden_states(scorer.model, batch, batch.source_M))
        theirs = scorer.model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask).logits
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3):
        family = scorer.model.config.model_type
        raise TrainingError(f"models of the family {family!r} change their logits in a way unknown to training")


def _probe(model: PreTrainedModel) -> list[Element]:
    """Prompts of four and two tokens with two completions and one, of ids spread over the vocabulary."""
    spread = [(7 * index + 3) % model.config.get_text_config().vocab_size for index in range(14)]
    first = Element("probe", tuple(spread[:4]), (tuple(spread[4:7]), tuple(spread[7:9])))
    return [first, Element("second probe", tuple(spread[9:11]), (tuple(spread[11:]),))]


def _last_states(model: PreTrainedModel, layout: Layout) -> torch.Tensor:
    batch = token_batch(_probe(model), layout).to(model.device)
    return hidden_states(model, batch, batch.last_N).flatten(0, 1).index_select(0, batch.last_N).float()
