"""The two demo models' shapes, and how they are saved so that vLLM and transformers both load them.

Qwen2 with tied embeddings and heads of 32, the smallest head that vLLM serves on a CPU. Random weights come from a
seed; training is in `train_policy.py` and `train_judge.py`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

HEAD = 32
WIDTH = 128
POLICY_LAYERS = 4  # enough to predict which answer is right
JUDGE_LAYERS = 7  # three more, to compare the answer that a reply gives with that prediction
FOLDER = Path(__file__).resolve().parents[1] / "data" / "demo"
POLICY, JUDGE = FOLDER / "policy", FOLDER / "judge"


def build_policy(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2ForCausalLM:
    """An untrained policy of about a million parameters."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=POLICY_LAYERS,
        num_attention_heads=WIDTH // HEAD,
        num_key_value_heads=WIDTH // HEAD // 2,
        intermediate_size=3 * WIDTH,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def grow(model: Qwen2ForCausalLM, layers: int, seed: int) -> Qwen2ForCausalLM:
    """The same model with more layers on top, which change nothing until they are trained."""
    torch.manual_seed(seed)
    shape = {**model.config.to_dict(), "num_hidden_layers": layers, "layer_types": None}
    grown = Qwen2ForCausalLM(Qwen2Config.from_dict(shape))
    grown.load_state_dict(model.state_dict(), strict=False)
    for layer in grown.model.layers[model.config.num_hidden_layers :]:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return grown


def save(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write weights, config, tokenizer and the generation settings that make a server stop at the end of a turn."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=1.0
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def load(folder: Path) -> tuple[Qwen2ForCausalLM, Qwen2Tokenizer]:
    """Read a saved model and its tokenizer."""
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def parameter_count(model: Qwen2ForCausalLM) -> int:
    """Parameters, the tied embedding counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
