"""The demo models' tokenizer: a byte-level BPE of 1,536 pieces, nearly every word of the world in one with a chat
template inside.

Policy and judge share it. The fixed text of the judge's prompt templates is one piece each, which makes a judge call
about sixty tokens long; text that was edited simply falls back to words. The template only ever appends, so the
tokens of a conversation are a prefix of the tokens of the same conversation with one more turn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from demo import grammar
from demo.prompting import ANSWERS, FIXED_TEXT
from demo.wordings import WORDINGS

VOCABULARY = 1536
PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (PAD, SYSTEM, USER, ASSISTANT, END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def build_tokenizer(seed: int) -> Qwen2Tokenizer:
    """Train the tokenizer on text of the world.

    It is a Qwen2Tokenizer, because that is what transformers and vLLM load for a Qwen2 model whatever the folder
    says. Qwen2 cuts numbers into digits; pieces that hold a number are kept whole as added tokens, which are found
    before any cutting.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(FIXED_TEXT),
        special_tokens=[*SPECIAL, "\n"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(_corpus(random.Random(seed)), trainer)
    model = json.loads(trained.to_str())["model"]
    numbers = [piece for piece in model["vocab"] if len(piece) > 1 and any(map(str.isdigit, piece))]
    kept = [piece for piece in model["vocab"] if piece not in {*numbers, "\n"}]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: number for number, piece in enumerate(kept)},
        merges=[tuple(pair) for pair in model["merges"] if "".join(pair) not in numbers],
        unk_token=PAD,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )
    tokenizer.add_tokens([AddedToken(token, special=True) for token in SPECIAL], special_tokens=True)
    whole = ["\n", *FIXED_TEXT, *(piece.replace("Ġ", " ") for piece in numbers)]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in whole])
    return tokenizer


def _corpus(rng: random.Random) -> Iterator[str]:
    """Training prompts with replies as they stand at the start of a turn and within a judge's prompt."""
    for _ in range(4):
        for request in grammar.of_split("train"):
            reply = grammar.compose(request, grammar.draw_recipe(request, rng), rng)
            yield from (request.prompt, reply, f"User: {request.prompt}", f"Assistant: {reply}")
    for wording in WORDINGS:
        yield from (f" {wording.text}" for _ in range(20))
    for answer in ANSWERS:
        yield from (answer for _ in range(200))
