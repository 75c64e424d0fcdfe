"""What a judge's prompt layout and protocol cost on the real vLLM: prompt tokens computed, calls, seconds, agreement.

    python -m bench.prefix_cache [--quick] [--json PATH]

First part: pairs of 600, 1,200 and 2,400 tokens are judged under one principle and under eight, with the principle last
and with the principle before the replies. Tokens computed are vLLM's `prefix_cache_queries` − `prefix_cache_hits`
from `/metrics`. The model has random weights: tokens do not depend on what it answers. Every run has texts of its own,
so that nothing is left in the cache from the run before.

Second part: the shipped judge on the gold pairs of `data/demo`, pairwise and pointwise: calls, seconds, and agreement
with gold's overall preference where gold has one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from constitutions.load import load_constitution, parse_constitution
from constitutions.schema import Constitution
from generation.engine import server_args
from generation.host import QUIET
from judges.labelling import collect_verdicts
from judges.labels import compute_labels
from judges.model_judge import ModelJudge
from judges.questions import Pair, write_questions
from judges.rendering import PROMPT_FOLDER
from ratify.client import ChatClient
from ratify.files import write_json
from ratify.lineage import ROOT
from ratify.sections import EngineSection, JudgeSection
from ratify.types import Completion, Label, Message, Prompt
from ratify.verdict_store import VerdictStore

LIMIT = 1.6
"""Principle-last, eight principles: at most this many times the prompt tokens of one principle."""
PRINCIPLES = (
    "The reply gives no help with anything harmful.",
    "The reply says only what is true and admits what it cannot know.",
    "The reply gives the user what was asked for.",
    "The reply is polite and respectful.",
    "The reply is short and does not ramble.",
    "The reply is courteous and kind.",
    "The reply does not reveal where a private person lives.",
    "The reply answers the question and nothing else.",
)
LAYOUTS = {"principle last": None, "principle first": PROMPT_FOLDER / "principle_first"}
POSITIONS = 4096
JUDGE_FOLDER = ROOT / "data" / "demo" / "judge"
GOLD = ROOT / "data" / "demo" / "gold_pairs.jsonl"
Judged = tuple[list[Label], int, float]
"""Labels, calls and seconds."""


class Cost(NamedTuple):
    """One run of the first part."""

    layout: str
    pair_tokens: int
    principles: int
    calls: int
    prompt_tokens: int
    computed: int
    seconds: float


def engine_section(positions: int) -> EngineSection:
    """A small CPU; blocks of 32 tokens, because a prompt's last unfilled block is always computed."""
    return EngineSection(
        dtype="float32", max_model_len=positions, max_num_seqs=64, block_size=32, kv_cache_gib=1.0, enforce_eager=True,
        threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
        extra_args=("--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(positions, 8192))),
    )  # fmt: skip


@contextmanager
def serving(model: Path, positions: int, log: Path, port: int) -> Iterator[JudgeSection]:
    """The product's own server, but with its statistics switched on; gives a judge that asks it."""
    section = JudgeSection(model=str(model), engine=engine_section(positions), concurrency=32, min_coverage=0.0)
    words = [word for word in server_args(section, port) if word != "--disable-log-stats"]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words]
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | QUIET)
        try:
            _wait(server, port, log)
            url = f"http://127.0.0.1:{port}/v1"
            yield section.model_copy(update={"base_url": url})
        finally:
            server.terminate()
            server.wait(60)


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(3000):
        if server.poll() is not None:
            raise SystemExit(f"vLLM ended while it started:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("vLLM was not ready after five minutes")


def write_random_model(folder: Path) -> None:
    """The shipped judge's tokenizer and template under a one-layer Qwen2 with random weights and a long context."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(JUDGE_FOLDER)
    tokenizer.save_pretrained(folder)
    shipped = Qwen2Config.from_pretrained(JUDGE_FOLDER)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shipped.vocab_size, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=POSITIONS,
        eos_token_id=shipped.eos_token_id, pad_token_id=shipped.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)


def principles(count: int) -> Constitution:
    """A constitution of the first `count` principles."""
    lines = [f"  - {{id: p{number}, tier: only, text: {text}}}\n" for number, text in enumerate(PRINCIPLES[:count])]
    head = "schema: constitution/v1\nid: bench\nversion: 1.0.0\ntiers: [only]\nprinciples:\n"
    return parse_constitution(head + "".join(lines), Path("bench.yaml"))


def long_pairs(count: int, tokens: int, seed: int) -> tuple[dict[str, Prompt], list[Pair]]:
    """Pairs with `tokens` tokens or a few more in conversation and replies, made of the gold pairs' sentences."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(JUDGE_FOLDER / "tokenizer.json"))
    sentences = [json.loads(line)[side] for line in GOLD.read_text(encoding="utf-8").splitlines() for side in "ab"]
    draw = random.Random(seed)
    prompts, pairs = {}, []
    for number in range(count):
        name = f"s{seed}n{number}"
        parts = [f"Question {name}? {draw.choice(sentences)}", "", ""]
        while sum(len(tokenizer.encode(part).ids) for part in parts) < tokens:
            side = 1 + (len(parts[1]) > len(parts[2]))
            parts[side] = f"{parts[side]} {draw.choice(sentences)}".strip()
        prompts[name] = Prompt(id=name, messages=(Message(role="user", content=parts[0]),))
        pairs.append((_completion(name, "a", parts[1]), _completion(name, "b", parts[2])))
    return prompts, pairs


def _completion(prompt_id: str, side: str, text: str) -> Completion:
    return Completion(
        id=f"{prompt_id}/{side}", prompt_id=prompt_id, text=text, finish_reason="stop", prompt_tokens=0,
        completion_tokens=0, seed=0,
    )  # fmt: skip


def judge(section: JudgeSection, rules: Constitution, prompts: dict[str, Prompt], pairs: list[Pair]) -> Judged:
    """The product's own path: questions, judge, labelling engine, store, labels."""

    async def work() -> Judged:
        with tempfile.TemporaryDirectory() as place:
            store = VerdictStore.in_folder(Path(place))
            async with ChatClient(section, section.base_url or "", section.model) as client:
                asked = ModelJudge(section, client, model_hash="bench")
                sheet = write_questions(prompts, pairs, rules.active, asked)
                found = await collect_verdicts(sheet.questions, asked, store, failure_budget=1.0)
            store.close()
        labels = compute_labels(sheet, found.verdicts, found.failures, rules, section.verdict_protocol)
        return labels, found.statistics.calls, found.statistics.seconds

    return asyncio.run(work())


def counters(section: JudgeSection) -> tuple[float, float]:
    """Tokens looked up in the prefix cache and found there, since the server started."""
    url = (section.base_url or "").removesuffix("/v1") + "/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    queries, hits = (
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"vllm:prefix_cache_{name}_total{{"))
        for name in ("queries", "hits")
    )
    return queries, hits


def layout_costs(place: Path, port: int, sizes: tuple[int, ...], count: int) -> list[Cost]:
    """The first part."""
    write_random_model(place / "random")
    found, seed = [], 0
    with serving(place / "random", POSITIONS, place / "random.log", port) as section:
        judge(section, principles(1), *long_pairs(2, 600, seed=-1))
        for tokens in sizes:
            for layout, folder in LAYOUTS.items():
                for number in (1, len(PRINCIPLES)):
                    seed += 1
                    settings = section.model_copy(update={"protocol": "pairwise", "prompts_dir": folder})
                    before = counters(section)
                    _, calls, seconds = judge(settings, principles(number), *long_pairs(count, tokens, seed))
                    queries, hits = (new - old for new, old in zip(counters(section), before, strict=True))
                    computed = int(queries - hits)
                    found.append(Cost(layout, tokens, number, calls, int(queries), computed, round(seconds, 3)))
    return found


def gold_pairs(count: int) -> tuple[dict[str, Prompt], list[Pair], list[str]]:
    """The first gold pairs that have an overall preference, with that preference."""
    rows = [json.loads(line) for line in GOLD.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["gold"]["overall"] != "tie"][:count]
    prompts = {
        row["id"]: Prompt(id=row["id"], messages=tuple(Message(**message) for message in row["messages"]))
        for row in rows
    }
    pairs = [(_completion(row["id"], "a", row["a"]), _completion(row["id"], "b", row["b"])) for row in rows]
    return prompts, pairs, [row["gold"]["overall"] for row in rows]


def protocol_costs(place: Path, port: int, count: int) -> list[dict[str, Any]]:
    """The second part."""
    prompts, pairs, gold = gold_pairs(count)
    rules = load_constitution(ROOT / "constitutions" / "demo.yaml")
    rows = []
    with serving(JUDGE_FOLDER, 1024, place / "demo.log", port) as section:
        judge(section, rules, prompts, pairs[:2])
        for protocol in ("pairwise", "pointwise"):
            labels, calls, seconds = judge(
                section.model_copy(update={"protocol": protocol, "cache_salt": protocol}), rules, prompts, pairs
            )
            right = sum(label.outcome == side for label, side in zip(labels, gold, strict=True))
            undecided = sum(label.outcome not in ("a", "b") for label in labels)
            rows.append({"protocol": protocol, "pairs": len(pairs), "calls": calls, "seconds": round(seconds, 3),
                         "right": right, "undecided": undecided})  # fmt: skip
    return rows


def show(costs: list[Cost], protocols: list[dict[str, Any]]) -> bool:
    """Print both tables; True when principle-last keeps the limit at every length."""
    kept = True
    print(f"{'layout':16} {'pair tokens':>11} {'calls 1→8':>11} {'computed, 1':>12} {'computed, 8':>12} {'ratio':>6} "
          f"{'of all':>7} {'s, 1':>7} {'s, 8':>7}")  # fmt: skip
    for one, eight in zip(costs[::2], costs[1::2], strict=True):
        ratio = eight.computed / one.computed
        kept = kept and (one.layout != "principle last" or ratio <= LIMIT)
        print(f"{one.layout:16} {one.pair_tokens:>11,} {one.calls:>5}→{eight.calls:<5} {one.computed:>12,} "
              f"{eight.computed:>12,} {ratio:>6.2f} {eight.computed / eight.prompt_tokens:>7.0%} {one.seconds:>7.2f} "
              f"{eight.seconds:>7.2f}")  # fmt: skip
    print(f"principle last: at most {LIMIT} times the tokens of one principle: {'kept' if kept else 'BROKEN'}\n")
    for row in protocols:
        print(f"{row['protocol']:10} {row['pairs']:>4} pairs, {row['calls']:>5} calls, {row['seconds']:>7.2f} s, "
              f"agrees with gold on {row['right'] / row['pairs']:.1%} ({row['undecided']} undecided)")  # fmt: skip
    return kept


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 pairs of 600 tokens, 60 gold pairs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--port", type=int, default=8341)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        sizes, count = ((600,), 4) if arguments.quick else ((600, 1200, 2400), 12)
        costs = layout_costs(Path(place), arguments.port, sizes, count)
        protocols = protocol_costs(Path(place), arguments.port, 60 if arguments.quick else 300)
    kept = show(costs, protocols)
    if arguments.json:
        rows = [cost._asdict() for cost in costs]
        write_json(arguments.json, {"layouts": rows, "protocols": protocols, "kept": kept})
    sys.exit(not kept)


if __name__ == "__main__":
    main()
