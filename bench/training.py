"""Training against TRL on one processor: pairs per second, interleaved, on the same model, data and pairs per step;
of a GRPO update completions per second.

    python -m bench.training [--trl PYTHON] [--rounds N] [--steps N] [--quick] [--case NAME] [--json PATH]

PYTHON is an interpreter that has TRL 1.16 beside the packages of the lock (`pip install --no-deps trl==1.16.0` in an
environment of its own); without it our own side runs alone. The model is a Qwen2 with random weights: what is measured
is computation, which does not depend on what the weights have learnt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.training_sides import CASES, LONGEST_COMPLETION, WARM_STEPS, Case
from demo import models
from ratify.files import write_json, write_text
from ratify.lineage import ROOT

LAYERS, WIDTH = 6, 256
WORDS = ("the", "a", "of", "rain", "tea", "room", "is", "was", "and", "we", "you", "cold", "warm", "red")


def write_model(folder: Path) -> None:
    """A Qwen2 with random weights and the demo's tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(models.POLICY)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=8,
        num_key_value_heads=4, intermediate_size=4 * WIDTH, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_data(folder: Path, case: Case, steps: int) -> None:
    """Every pair of each prompt's completions, or the completions; lengths vary by a third around the case's means."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.POLICY)
    rng = random.Random(7)

    def text(tokens: int) -> str:
        wanted = round(tokens * rng.uniform(2 / 3, 4 / 3))
        words = f"{rng.randrange(10**6)}" + "".join(f" {rng.choice(WORDS)}" for _ in range(wanted))
        return str(tokenizer.decode(tokenizer(words)["input_ids"][:wanted]))

    prompts = steps * case.prompts_per_step
    if case.task == "policy_gradient":
        _write_rollouts(folder, case, prompts, text)
        return
    rows = _pairs(case, prompts, text)
    write_text(folder / "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _write_rollouts(folder: Path, case: Case, prompts: int, text: Callable[[int], str]) -> None:
    """Prompts for our task, and with their tokens and completions for the samplers of both sides."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.POLICY)
    given = []
    for _ in range(prompts):
        prompt = text(case.prompt_tokens)
        completions = [tokenizer(f" {text(case.completion_tokens)}")["input_ids"] for _ in range(case.completions)]
        longest = round(case.completion_tokens * LONGEST_COMPLETION)
        completions = [ids[:longest] for ids in completions]
        given.append({"prompt": prompt, "prompt_ids": tokenizer(prompt)["input_ids"], "completion_ids": completions})
    write_text(folder / "rollouts.jsonl", "".join(json.dumps(row) + "\n" for row in given))
    write_text(folder / "prompts.jsonl", "".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in given))


def _pairs(case: Case, prompts: int, text: Callable[[int], str]) -> Iterator[dict[str, Any]]:
    for _ in range(prompts):
        prompt = text(case.prompt_tokens)
        replies = [f" {text(case.completion_tokens)}" for _ in range(case.completions)]
        for chosen, rejected in itertools.combinations(replies, 2):
            yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def run_side(side: str, name: str, folder: Path, python: str) -> dict[str, float]:
    """One side of one case in its own process, on one thread."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT), "TRL_EXPERIMENTAL_SILENCE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    done = subprocess.run(
        [python, "-m", "bench.training_sides", side, name, str(folder)],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"bench.training: {side} failed at {name!r}:\n{done.stderr[-3000:]}")
    report: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def measure(name: str, python_trl: str | None, rounds: int, steps: int) -> dict[str, Any]:
    """One case: the sides take turns, so that a busy neighbour troubles both; medians over the rounds."""
    sides = {"ours": sys.executable} | ({"trl": python_trl} if python_trl else {})
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="ratify-bench-") as scratch:
        folder = Path(scratch)
        write_model(folder / "model")
        # One prompt more than the steps hold: a reward model keeps one aside.
        write_data(folder, CASES[name], steps + WARM_STEPS)
        for _ in range(rounds):
            for side, python in sides.items():
                found[side].append(run_side(side, name, folder, python))
    return {side: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for side, runs in found.items()}


def show(results: dict[str, dict[str, Any]]) -> None:
    """The table; above 1 we are faster, and lighter where memory's ratio is below 1."""
    table = Table(title="training, one thread: pairs or completions per processor second (wall second), peak memory")
    for heading in ("case", "ours", "TRL", "ratio", "wall ratio", "MiB ours / TRL"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for name, sides in results.items():
        mine, theirs = sides["ours"], sides.get("trl")
        rate = f"{mine['per_cpu_s']:.1f} ({mine['per_s']:.1f})"
        if theirs is None:
            table.add_row(name, rate, "", "", "", f"{mine['peak_mib']:.0f}")
            continue
        table.add_row(
            name, rate, f"{theirs['per_cpu_s']:.1f} ({theirs['per_s']:.1f})",
            f"{mine['per_cpu_s'] / theirs['per_cpu_s']:.2f}",
            f"{mine['per_s'] / theirs['per_s']:.2f}",
            f"{mine['peak_mib']:.0f} / {theirs['peak_mib']:.0f}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", metavar="PYTHON", help="interpreter that has TRL")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=8, help="steps that count in each turn")
    parser.add_argument("--quick", action="store_true", help="one short turn")
    parser.add_argument("--case", choices=CASES, action="append", help="this case only; may be given again")
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args()
    rounds, steps = (1, 3) if options.quick else (options.rounds, options.steps)
    results = {name: measure(name, options.trl, rounds, steps) for name in options.case or CASES}
    show(results)
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
