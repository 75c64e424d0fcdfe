"""Draw replies from the demo policy with transformers: enough for the recipes here, where no server need run.

The pipeline itself samples with vLLM (`generation/`); this is only for training data and measurements of the demo
world. Rows leave the batch as soon as they are finished, because replies differ much in length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

BATCH = 512
MAX_NEW_TOKENS = 64


def chat_head(prompt: str) -> str:
    """A one-message conversation as the chat template renders it, up to the assistant's turn."""
    return f"<|user|>\n{prompt}<|end|>\n<|assistant|>\n"


def sample_replies(
    model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, prompts: Sequence[str], *, seed: int
) -> list[str]:
    """One reply per prompt at temperature 1. A reply that ran into the token limit stays cut off."""
    torch.manual_seed(seed)
    tokenizer.padding_side = "left"
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    replies = [""] * len(prompts)
    for start in range(0, len(order), BATCH):
        chunk = order[start : start + BATCH]
        batch = tokenizer([chat_head(prompts[index]) for index in chunk], padding=True, return_tensors="pt")
        tokens = _sample(model, batch["input_ids"], batch["attention_mask"])
        for index, text in zip(chunk, tokenizer.batch_decode(tokens), strict=True):
            replies[index] = text
    return replies


@torch.inference_mode()
def _sample(model: Qwen2ForCausalLM, ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """New tokens per row of a left-padded batch, without the token that ends the turn."""
    found: list[list[int]] = [[] for _ in ids]
    alive, cache, positions = torch.arange(len(ids)), None, (mask.cumsum(-1) - 1).clamp(min=0)
    for _ in range(MAX_NEW_TOKENS):
        output = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        chosen = output.logits[:, -1].softmax(-1).multinomial(1)
        going, cache = chosen[:, 0] != model.config.eos_token_id, output.past_key_values
        alive, ids, mask, positions = alive[going], chosen[going], mask[going], positions[going, -1:] + 1
        if not len(alive):
            break
        cache.batch_select_indices(going.nonzero()[:, 0])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        for row, token in zip(alive.tolist(), ids[:, 0].tolist(), strict=True):
            found[row].append(token)
    return found
