"""Does a verifiable reward teach? The demo's policy on the sums of its world, before and after GRPO.

    python -m bench.grpo_arithmetic [--algorithm grpo] [--epochs 10] [--seed 0] [--out FOLDER] [--json PATH]

Trains on the training split's sums with the exact-answer reward (right 1, declining 0.3, wrong 0) and asks the held-out
ones, whose wordings it has not seen, eight times each. Accuracy is the share of replies whose last number is right; the
interval of the difference resamples prompts. Everything is the product's own path, child process included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from demo.grammar import requests
from ratify.files import write_json
from ratify.intervals import difference, mean
from ratify.lineage import ROOT
from ratify.policy_gradient_section import ExactAnswerSpec, PolicyGradientSection
from training.launch import launch
from training.spec import PolicyGradientTask

POLICY = ROOT / "data" / "demo" / "policy"
FAMILIES = ("plus", "minus")
SAMPLES = 8
MAX_TOKENS = 48
EXACT = ExactAnswerSpec(abstain_pattern=r"not know|cannot (say|tell)")


def sums(split: str) -> list[dict[str, Any]]:
    """The split's sums as prompt rows with their answers."""
    return [
        {"prompt": [{"role": "user", "content": request.prompt}], "prompt_id": f"{split}-{number}", "answer": answer}
        for number, request in enumerate(requests())
        if request.family in FAMILIES and request.split == split and (answer := request.row.value) is not None
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def section_for(algorithm: str, epochs: int) -> PolicyGradientSection:
    """Settings for the demo's policy of about a million parameters."""
    return PolicyGradientSection.model_validate(
        {
            "algorithm": algorithm, "learning_rate": 3e-4, "epochs": epochs, "batch_prompts": 32,
            "completions_per_prompt": SAMPLES, "max_tokens": MAX_TOKENS, "max_length": 128, "rewards": [EXACT],
            "kl_coefficient": 0.02, "warmup_fraction": 0.05, "threads": 1, "save_every_steps": 0,
        }
    )  # fmt: skip


def rewards_of(model: Path, data: Path, seed: int) -> tuple[list[float], list[str]]:
    """Exact-answer rewards of eight replies to each prompt, and the prompts they belong to."""
    from training.models import load_encoder, load_policy
    from training.policy_gradient import load_items
    from training.rewards import Rollout
    from training.rollouts import TransformersSampler, stop_tokens
    from training.verifiable import exact_answer

    encoder, policy = load_encoder(str(model)), load_policy(str(model))
    items, _ = load_items(data, encoder, section_for("grpo", 1))
    sampler = TransformersSampler(policy, stop_tokens(encoder, policy), max_tokens=MAX_TOKENS)
    found: list[float] = []
    owners: list[str] = []
    for item, completions in zip(items, sampler.sample(items, SAMPLES, seed), strict=True):
        for sampled in completions:
            text = str(encoder.tokenizer.decode(list(sampled.tokens), skip_special_tokens=True))
            found.append(exact_answer(EXACT, Rollout(item, sampled, text)) or 0.0)
            owners.append(item.prompt_id)
    return found, owners


def compare(folder: Path, algorithm: str, epochs: int, seed: int) -> dict[str, Any]:
    """Train and measure on held-out prompts."""
    train, heldout = (write_rows(folder / f"{split}.jsonl", sums(split)) for split in ("train", "heldout"))
    section = section_for(algorithm, epochs)
    spec = PolicyGradientTask(data=train, out=folder / "task", model=str(POLICY), seed=seed, section=section)
    started = time.perf_counter()
    result = launch(spec)
    seconds = time.perf_counter() - started
    (old, owners), (new, _) = (rewards_of(model, heldout, seed) for model in (POLICY, Path(str(result.model))))
    right_old, right_new = ([float(reward == EXACT.right) for reward in found] for found in (old, new))
    return {
        "algorithm": algorithm,
        "steps": result.metrics["steps"],
        "seconds": round(seconds, 1),
        "kl": result.metrics["train/kl"],
        "heldout_prompts": len(set(owners)),
        "before": mean(right_old, owners, share=True).model_dump(),
        "after": mean(right_new, owners, share=True).model_dump(),
        "difference": difference(right_new, owners, right_old, owners, share=True).model_dump(),
        "declined_before": sum(reward == EXACT.abstain for reward in old) / len(old),
        "declined_after": sum(reward == EXACT.abstain for reward in new) / len(new),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--algorithm", default="grpo", choices=("grpo", "dr_grpo", "dapo", "rloo", "reinforce"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the training task; a temporary one if not given")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = compare(given.out or Path(temporary), given.algorithm, given.epochs, given.seed)
    for name in ("before", "after", "difference"):
        one = figures[name]
        print(f"{name:>11}: {one['value']:+.1%} [{one['low']:+.1%}, {one['high']:+.1%}]")
    print(f"   declined: {figures['declined_before']:.1%} before, {figures['declined_after']:.1%} after")
    print(
        f"{figures['algorithm']}, {figures['steps']:.0f} steps, {figures['heldout_prompts']} held-out prompts, "
        f"{SAMPLES} replies each, KL {figures['kl']:.2f} nats per reply, {figures['seconds']} s of training"
    )
    if given.json:
        write_json(given.json, figures)


if __name__ == "__main__":
    main()
