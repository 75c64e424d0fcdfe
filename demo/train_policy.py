"""Train the demo policy: supervised learning on replies of mixed quality, as a pre-trained assistant would bring
them.

About one reply in eight that it learns from is right in every respect, so there is much to gain from feedback.
Replies are drawn afresh at every step; only training prompts are used. Run it with `python -m demo.train_policy`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from demo import grammar, models
from demo.loop import fit
from demo.sampling import chat_head
from demo.tokens import build_tokenizer

SEED = 20
POOL = 2048  # replies drawn at once and sorted by length, so that little of a batch is padding
IGNORED = -100


class Cycle(NamedTuple):
    """One warm-up and decay of the learning rate."""

    steps: int
    batch: int
    lr: float


CYCLES = (Cycle(700, 128, 3e-3), Cycle(1400, 64, 2.5e-3))
"""The first learns the language, the second, with twice the steps per reply, most of the facts."""


def batches(tokenizer: Qwen2Tokenizer, size: int, rng: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels, (B, T) each; only the reply and its end carry labels."""
    prompts = grammar.of_split("train")
    pad = tokenizer.pad_token_id
    while True:
        rows = sorted(_rows(tokenizer, rng.choices(prompts, k=POOL), rng), key=lambda row: len(row[0]))
        chunks = [rows[at : at + size] for at in range(0, len(rows), size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            width = max(len(ids) for ids, _ in chunk)
            ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in chunk])
            labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in chunk])
            yield ids, labels


def _rows(
    tokenizer: Qwen2Tokenizer, requests: list[grammar.Request], rng: random.Random
) -> list[tuple[list[int], list[int]]]:
    replies = [grammar.compose(request, grammar.draw_recipe(request, rng), rng) for request in requests]
    heads = tokenizer([chat_head(request.prompt) for request in requests])["input_ids"]
    tails = tokenizer([f"{reply}<|end|>" for reply in replies])["input_ids"]
    return [(head + tail, [IGNORED] * len(head) + tail) for head, tail in zip(heads, tails, strict=True)]


def policy_loss(model: Qwen2ForCausalLM, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy over reply tokens. Padding stands on the right, where no reply token can see it."""
    ids, labels = batch
    logits = model(input_ids=ids).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def train_policy(folder: Path, *, seed: int = SEED, cycles: Sequence[Cycle] = CYCLES) -> float:
    """Train, save to a folder and return the minutes it took."""
    tokenizer = build_tokenizer(seed)
    model = models.build_policy(tokenizer, seed)
    print(f"policy: {models.parameter_count(model):,} parameters", flush=True)
    minutes = 0.0
    for number, cycle in enumerate(cycles):
        rows = batches(tokenizer, cycle.batch, random.Random(seed + number))
        minutes += fit(model, rows, policy_loss, steps=cycle.steps, lr=cycle.lr, name="policy")
    models.save(model, tokenizer, folder)
    return minutes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=models.POLICY, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of weights and data")
    options = parser.parse_args()
    minutes = train_policy(options.out, seed=options.seed)
    print(f"policy: trained in {minutes:.1f} min, saved to {options.out}")


if __name__ == "__main__":
    main()
