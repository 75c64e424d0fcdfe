"""Policies of the demo's world, measured: true compliance by the oracle, KL, wording and length on held-out prompts.

What `objectives` and `pareto` share. Sampling is transformers' in this process, log-probabilities and rewards are the
product's own scoring task. Left out: how the policies were trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from demo.oracle import PROPERTIES, assess
from evaluation.ngram_figures import ngram_figures
from evaluation.word_stream import word_streams
from flows.stages.score_row import score_row
from ratify.files import write_records, write_text
from ratify.intervals import Estimate, mean, ratio
from ratify.prompts import load_prompts
from ratify.sections import OptimiserSection
from ratify.types import Completion, Prompt
from training.launch import launch
from training.spec import ScoreTask

ALL = "all"
NAMES = (ALL, *PROPERTIES, "well_formed")
MAX_TOKENS = 64
POLICY = Path("data/demo/policy")
"""Where all of them start, and what their KL is measured from."""
SECTION = OptimiserSection(max_length=256, threads=1, learning_rate=1e-4)


class Measured(NamedTuple):
    """Replies of one policy and what is known of them."""

    replies: list[Completion]
    reward: list[float | None]
    """By the reward model; None for a reply without text, which no model scores."""
    log_ratio: list[float | None]
    """log π − log π_ref of each reply, nats."""


def heldout(limit: int | None) -> list[Prompt]:
    """The demo's held-out prompts."""
    return load_prompts(Path("data/demo/prompts/heldout.jsonl"), limit, 0)


def sample(model: Path, prompts: Sequence[Prompt], per_prompt: int, seed: int) -> list[Completion]:
    """Replies at temperature 1, a prompt's replies one after the other."""
    from training.models import load_encoder, load_policy
    from training.rollouts import PromptItem, TransformersSampler, stop_tokens

    encoder, policy = load_encoder(str(model)), load_policy(str(model))
    tokens = encoder.prompts([prompt.messages for prompt in prompts])
    items = [PromptItem(prompt.id, prompt.messages, tuple(ids)) for prompt, ids in zip(prompts, tokens, strict=True)]
    sampler = TransformersSampler(policy, stop_tokens(encoder, policy), max_tokens=MAX_TOKENS)
    found = []
    for item, group in zip(items, sampler.sample(items, per_prompt, seed), strict=True):
        for number, one in enumerate(group):
            text = str(encoder.tokenizer.decode(list(one.tokens), skip_special_tokens=True))
            found.append(
                Completion(
                    id=f"{item.prompt_id}/{number}", prompt_id=item.prompt_id, text=text, token_ids=one.tokens,
                    finish_reason=one.finish_reason, prompt_tokens=len(item.tokens),
                    completion_tokens=len(one.tokens), seed=seed,
                )
            )  # fmt: skip
    return found


def score(
    out: Path, prompts: Sequence[Prompt], replies: Sequence[Completion], models: Mapping[str, Path]
) -> list[dict[str, Any] | None]:
    """What each model says of each reply: `logprob` of policies, `reward` of reward models; None of an empty one."""
    messages = {prompt.id: prompt.messages for prompt in prompts}
    rows = [
        score_row(each.id, messages[each.prompt_id], each.text, each.finish_reason, each.token_ids)
        for each in replies
        if each.text.strip()
    ]
    out.mkdir(parents=True, exist_ok=True)
    data = out / "rows.jsonl"
    write_text(data, "".join(rows))
    named = {name: str(path) for name, path in models.items()}
    result = launch(ScoreTask(section=SECTION, models=named, data=data, out=out))
    lines = Path(result.scores or "").read_text(encoding="utf-8").splitlines()
    found = {row["id"]: row for row in map(json.loads, lines)}
    return [found.get(reply.id) for reply in replies]


class Held(NamedTuple):
    """What policies are measured by."""

    prompts: list[Prompt]
    reward_model: Path
    seed: int


def measured(out: Path, model: Path, held: Held, per_prompt: int) -> Measured:
    """Sample a policy and score its replies."""
    replies = sample(model, held.prompts, per_prompt, held.seed)
    write_records(out / "replies.jsonl", replies)
    models = {"new": model, "reference": POLICY, "reward": held.reward_model}
    rows = score(out, held.prompts, replies, models)
    return Measured(
        replies,
        [row["reward"]["reward"] if row else None for row in rows],
        [row["new"]["logprob"] - row["reference"]["logprob"] if row else None for row in rows],
    )


def best_of(found: Measured, n: int, groups: int, per_prompt: int) -> Measured:
    """The best of `n` by the reward model, `groups` times a prompt; the KL of each is log n − (n − 1)/n, a bound."""
    kept = []
    for start in range(0, len(found.replies), per_prompt):
        for group in range(groups):
            numbers = range(start + group * n, start + (group + 1) * n)
            kept.append(max(numbers, key=lambda number: _or_least(found.reward[number])))
    bound = math.log(n) - (n - 1) / n
    return Measured([found.replies[k] for k in kept], [found.reward[k] for k in kept], [bound] * len(kept))


def known_mean(values: Sequence[float | None], owners: Sequence[str]) -> Estimate:
    """The mean of what is known, `owners` being the prompts that the interval is over."""
    known = [(value, owner) for value, owner in zip(values, owners, strict=True) if value is not None]
    return mean([value for value, _ in known], [owner for _, owner in known])


def figures(found: Measured, before: Measured, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Everything that a line of the table holds; intervals over prompts."""
    questions = {prompt.id: prompt.messages[-1].content for prompt in prompts}
    truths = [assess(questions[reply.prompt_id], reply.text) for reply in found.replies]
    owners = [reply.prompt_id for reply in found.replies]
    shares = {name: [float(truth.ok if name == ALL else getattr(truth, name)) for truth in truths] for name in NAMES}
    old, new = word_streams([before.replies, found.replies])
    lengths = [float(len(reply.text.split())) for reply in found.replies]
    return {
        "compliance": {name: mean(values, owners, share=True).model_dump() for name, values in shares.items()},
        "kl": known_mean(found.log_ratio, owners).model_dump(),
        "reward": known_mean(found.reward, owners).model_dump(),
        "distinct_2": ngram_figures(old, new, 2).distinct.new.model_dump(),
        "words": ratio(lengths, [1.0] * len(lengths), owners).model_dump(),
        "replies": len(owners),
    }


def line(name: str, row: Mapping[str, Any]) -> str:
    """A row of a Markdown table."""
    shares = row["compliance"]
    cells = [_share(shares[ALL])] + [f"{100 * shares[name]['value']:.1f}" for name in NAMES[1:]]
    more = [f"{row['kl']['value']:.2f}", f"{row['reward']['value']:+.2f}", f"{100 * row['distinct_2']['value']:.1f}"]
    more += [f"{row['words']['value']:.1f}", f"{row['seconds']:.0f}" if row.get("seconds") is not None else ""]
    return f"| {name} | " + " | ".join(cells + more) + " |"


HEAD = "| | " + " | ".join([ALL + " six, %", *(name.replace("_", " ") for name in NAMES[1:])])
HEAD += " | KL, nats | reward model | distinct-2, % | words | seconds |\n|" + "---|" * (len(NAMES) + 6)


def _or_least(reward: float | None) -> float:
    return -math.inf if reward is None else reward


def _share(found: Mapping[str, Any]) -> str:
    share = Estimate.model_validate(found)
    if share.low is None or share.high is None:
        return f"{100 * share.value:.1f}"
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
