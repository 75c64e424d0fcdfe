"""Train the demo judge: a small model that answers Yes, No, A or B about a reply under a written principle.

It starts from the policy's weights with fresh layers on top, so that it need not learn the facts of the world again.
First it reads: it learns what part each sentence of a reply plays, cheaply, without any question. Then it is asked.
Both stages use replies of the grammar and the policy's own replies to training prompts, because those are what it
will be asked about. Labels are the oracle's. Run it with `python -m demo.train_judge`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from demo import grammar, models
from demo.judge_data import Encoder, draw
from demo.loop import fit
from demo.oracle import PARTS
from demo.sampling import sample_replies
from demo.trees import Example, TreeBatch, collate

SEED = 21
POOL = 1024  # examples drawn at once and sorted by length, so that little of a batch is padding
BY_SENTENCE = 0.5  # weight of saying at the end of each sentence what part it plays: right, false, rude, ...
BY_HEART = 0.2  # weight of predicting the tokens of right replies: a dense signal for the facts of the world
OWN_REPLIES = 10  # policy replies per training prompt


class Stage(NamedTuple):
    """One warm-up and decay of the learning rate."""

    steps: int
    batch: int
    lr: float


READING = Stage(1500, 48, 1.5e-3)
ASKING = Stage(1500, 16, 1.2e-3)
PAIRWISE_SHARE = 0.2


def reading_batches(tokenizer: Qwen2Tokenizer, own: dict[str, list[str]], rng: random.Random) -> Iterator[TreeBatch]:
    """Batches of single replies without a question, for ever."""
    encoder, pairs = Encoder(tokenizer), draw(rng, own)
    while True:
        pool = [encoder.reading(each) for pair in itertools.islice(pairs, POOL // 2) for each in pair]
        yield from _by_length(pool, READING.batch, tokenizer, rng)


def asking_batches(tokenizer: Qwen2Tokenizer, own: dict[str, list[str]], rng: random.Random) -> Iterator[TreeBatch]:
    """Batches of questions about one reply or two, for ever."""
    encoder, pairs = Encoder(tokenizer), draw(rng, own)
    while True:
        pool: list[Example] = []
        for first, second in itertools.islice(pairs, POOL // 2):
            if rng.random() < PAIRWISE_SHARE:
                pool += [encoder.pairwise(first, second, rng), encoder.pairwise(second, first, rng)]
            else:
                pool += [encoder.pointwise(first, rng), encoder.pointwise(second, rng)]
        yield from _by_length(pool, ASKING.batch, tokenizer, rng)


def _by_length(pool: list[Example], size: int, tokenizer: Qwen2Tokenizer, rng: random.Random) -> Iterator[TreeBatch]:
    """Batches of similar length, in random order."""
    pool.sort(key=lambda each: len(each.trunk))
    chunks = [pool[at : at + size] for at in range(0, len(pool), size)]
    rng.shuffle(chunks)
    yield from (collate(chunk, tokenizer.pad_token_id) for chunk in chunks)


class JudgeLoss(torch.nn.Module):
    """The answers, and two dense signals that only training has: the part of each sentence, the words of right
    replies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = torch.nn.Linear(width, len(PARTS))

    def forward(self, model: Qwen2ForCausalLM, batch: TreeBatch) -> torch.Tensor:
        """The weighted sum of the three cross-entropies."""
        hidden = model.model(
            input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.allowed, use_cache=False
        ).last_hidden_state
        total: torch.Tensor = hidden.new_zeros(())
        if len(batch.rows):
            log_p = model.lm_head(hidden[batch.rows, batch.columns]).log_softmax(-1).gather(1, batch.answers)  # (N, 2)
            total = -(batch.targets * log_p[:, 0] + (1 - batch.targets) * log_p[:, 1]).mean()
        row, column, part = batch.parts.unbind(1)
        if len(part):
            total = total + BY_SENTENCE * torch.nn.functional.cross_entropy(self.parts(hidden[row, column]), part)
        if batch.worth.any():
            words, following = model.lm_head(hidden[batch.worth]), batch.ids.roll(-1, 1)[batch.worth]
            total = total + BY_HEART * torch.nn.functional.cross_entropy(words, following)
        return total


def own_replies(policy_folder: Path, seed: int, per_prompt: int = OWN_REPLIES) -> dict[str, list[str]]:
    """What the policy itself says to the training prompts."""
    policy, tokenizer = models.load(policy_folder)
    prompts = [request.prompt for request in grammar.of_split("train")]
    found: dict[str, list[str]] = {prompt: [] for prompt in prompts}
    for number in range(per_prompt):
        for prompt, reply in zip(prompts, sample_replies(policy, tokenizer, prompts, seed=seed + number), strict=True):
            found[prompt].append(reply)
    return found


def train_judge(policy_folder: Path, folder: Path, *, seed: int = SEED) -> float:
    """Train, save to a folder and return the minutes it took, drawing the policy's replies included."""
    start = time.monotonic()
    own = own_replies(policy_folder, seed)
    policy, tokenizer = models.load(policy_folder)
    judge, loss = models.grow(policy, models.JUDGE_LAYERS, seed), JudgeLoss(models.WIDTH)
    print(f"judge: {models.parameter_count(judge):,} parameters", flush=True)
    for name, stage, make in (("reading", READING, reading_batches), ("asking", ASKING, asking_batches)):
        examples = make(tokenizer, own, random.Random(f"{seed} {name}"))
        fit(judge, examples, loss, steps=stage.steps, lr=stage.lr, name=f"judge, {name}")
    models.save(judge, tokenizer, folder)
    return (time.monotonic() - start) / 60


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", type=Path, default=models.POLICY, help="policy whose replies it learns to judge")
    parser.add_argument("--out", type=Path, default=models.JUDGE, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of weights and data")
    options = parser.parse_args()
    minutes = train_judge(options.policy, options.out, seed=options.seed)
    print(f"judge: trained in {minutes:.1f} min, saved to {options.out}")


if __name__ == "__main__":
    main()
