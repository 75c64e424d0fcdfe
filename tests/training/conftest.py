"""Tiny random models with a tiny tokenizer, and preference data with a rule that can be learnt."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
torch.set_num_threads(1)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte (no merges), ChatML turns."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *sorted(ByteLevel.alphabet())])}
    raw = Tokenizer(BPE(vocabulary, []))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = ByteLevelDecoder()
    raw.add_special_tokens(SPECIAL)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|pad|>", additional_special_tokens=["<|im_start|>"]
    )
    made.chat_template = CHATML
    return made


def _tiny_config(family: str = "qwen2", **changes: Any) -> Any:
    """16 wide, 2 layers, 2 heads of 8."""
    sizes = {
        "vocab_size": 264, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256,
        "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": True,
    }  # fmt: skip
    return (Qwen2Config if family == "qwen2" else LlamaConfig)(**{**sizes, **changes})


def _tiny_model(family: str = "qwen2", seed: int = 0, **changes: Any) -> Any:
    """A random causal language model whose outputs differ clearly from token to token."""
    torch.manual_seed(seed)
    kind = Qwen2ForCausalLM if family == "qwen2" else LlamaForCausalLM
    return kind(_tiny_config(family, **{"initializer_range": 0.3, **changes}))


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A saved tiny Qwen2 with tokenizer, template and generation settings."""
    folder = tmp_path_factory.mktemp("policy")
    _tiny_model(initializer_range=0.05).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


Row = dict[str, Any]


def _chat_row(prompt: str, chosen: str, rejected: str, **more: Any) -> Row:
    """A conversational row as TRL reads it."""
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **more,
    }


def _learnable_rows(prompts: int, completions: int = 3, seed: int = 0) -> list[Row]:
    """Replies made of the letters x and y; the one with more x is better."""
    draw = random.Random(seed)
    rows = []
    for number in range(prompts):
        prompt = f"say {number} " + "abc"[number % 3] * draw.randint(1, 6)
        replies = sorted({"".join(draw.choice("xy") for _ in range(draw.randint(3, 7))) for _ in range(completions)})
        ranked = sorted(replies, key=lambda reply: reply.count("x") - reply.count("y"))
        for worse, better in itertools.pairwise(ranked):
            gap = (better.count("x") - better.count("y")) - (worse.count("x") - worse.count("y"))
            if gap > 0:
                rows.append(
                    _chat_row(prompt, better, worse, probability=0.9, margin=float(gap), prompt_id=f"p{number}")
                )
    return rows


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """Makes tiny random models: family, seed, configuration changes."""
    return _tiny_model


@pytest.fixture(scope="session")
def chat_row() -> Callable[..., Row]:
    """Makes a conversational row: prompt, chosen, rejected, further columns."""
    return _chat_row


@pytest.fixture(scope="session")
def learnable_rows() -> Callable[..., list[Row]]:
    """Makes rows that follow a rule: number of prompts, completions for each."""
    return _learnable_rows


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as JSON lines and return the file."""

    def write(rows: list[Row], name: str = "pairs.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps one state for each process, which tests of different settings must not share."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
