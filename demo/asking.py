"""Ask the demo judge with transformers, many questions at once, to measure it without a server.

The pipeline asks it over HTTP like any other judge (`judges/`); the prompts and the read-out are the same, so the
log-odds agree up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from demo.judge_data import Encoder
from demo.trees import Example, collate
from demo.wordings import PROPERTY_WORDINGS

BATCH = 64
PRINCIPLES = tuple(wording.text for wording in PROPERTY_WORDINGS)


class Question(NamedTuple):
    """A prompt with one reply, or with two in the order shown."""

    prompt: str
    replies: tuple[str, ...]

    def swap(self) -> Question:
        """The same two replies in the other order."""
        return Question(self.prompt, self.replies[::-1])


@torch.inference_mode()
def log_odds(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    questions: Sequence[Question],
    principles: Sequence[str] = PRINCIPLES,
) -> torch.Tensor:
    """Log-odds of the first answer (Yes, or A) over the second, (questions, principles)."""
    encoder = Encoder(tokenizer)
    examples = [encoder.question(each.prompt, each.replies, principles) for each in questions]
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].trunk))
    found = torch.zeros(len(examples), len(principles))
    for start in range(0, len(order), BATCH):
        chunk = order[start : start + BATCH]
        found[chunk] = _ask(model, tokenizer, [examples[index] for index in chunk]).view(len(chunk), len(principles))
    return found


def _ask(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, examples: Sequence[Example]) -> torch.Tensor:
    batch = collate(examples, tokenizer.pad_token_id)
    hidden = model.model(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.allowed, use_cache=False
    ).last_hidden_state
    logits: torch.Tensor = model.lm_head(hidden[batch.rows, batch.columns]).gather(1, batch.answers)
    return logits[:, 0] - logits[:, 1]
