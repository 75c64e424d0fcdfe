"""Measure the shipped policy and judge on held-out prompts and write `data/demo/measured.json`.

All judge figures are on the policy's own replies at temperature 1, on pairs that the oracle does not call equal, and
nothing is left out for being close. Run it with `python -m demo.measure`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from demo import grammar, models
from demo.asking import Question, log_odds
from demo.judge_data import label
from demo.oracle import PROPERTIES, Assessment, assess, utility
from demo.sampling import sample_replies
from demo.wordings import OTHER_WORDINGS

SEED = 22
REPLIES = 16  # per prompt
JUDGED = 8  # of those, how many the judge is measured on
PAIRWISE_PAIRS = 1500


def _clamped(low: float, z: torch.Tensor) -> torch.Tensor:
    """Log-odds kept between two probabilities, `low` and 1 - `low`."""
    bound = math.log((1 - low) / low)
    return z.clamp(-bound, bound)


def _logit_mean(low: float, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (_clamped(low, a) - _clamped(low, b)).mean(-1)


def _probability_mean(low: float, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (_clamped(low, a) - _clamped(low, b)).sigmoid().mean(-1) - 0.5


AGGREGATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "logit_mean": partial(_logit_mean, 1e-9),
    "logit_mean, clamp [0.02, 0.98]": partial(_logit_mean, 0.02),
    "logit_mean, clamp [0.1, 0.9]": partial(_logit_mean, 0.1),
    "logit_mean, clamp [0.2, 0.8]": partial(_logit_mean, 0.2),
    "logit_mean, clamp [0.3, 0.7]": partial(_logit_mean, 0.3),
    "probability_mean": partial(_probability_mean, 1e-9),
    "probability_mean, clamp [0.02, 0.98]": partial(_probability_mean, 0.02),
    "probability_mean, clamp [0.1, 0.9]": partial(_probability_mean, 0.1),
    "difference of mean probabilities": lambda a, b: (a.sigmoid() - b.sigmoid()).mean(-1),
}
"""How a pair's five principles become one number in favour of the first reply. Named as in `judges/aggregate.py`."""


def heldout_replies(
    policy: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, per_prompt: int, seed: int
) -> dict[str, list[str]]:
    """The policy's replies to the held-out prompts."""
    prompts = [request.prompt for request in grammar.of_split("heldout")]
    replies = sample_replies(policy, tokenizer, prompts * per_prompt, seed=seed)
    return {prompt: replies[index :: len(prompts)] for index, prompt in enumerate(prompts)}


def policy_figures(replies: dict[str, list[str]], tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    """True rates of the policy, and what the best of n would reach if the oracle chose."""
    truths = {prompt: [assess(prompt, reply) for reply in mine] for prompt, mine in replies.items()}
    every = [truth for mine in truths.values() for truth in mine]
    texts = [reply for mine in replies.values() for reply in mine]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    figures: dict[str, Any] = {name: _mean([getattr(truth, name) for truth in every]) for name in Assessment._fields}
    families = {request.prompt: request.family for request in grammar.requests()}
    figures["ok"] = _mean([truth.ok for truth in every])
    for n in (4, 16):
        figures[f"ok_best_of_{n}"] = _mean([any(truth.ok for truth in mine[:n]) for mine in truths.values()])
    figures["tokens_per_reply"] = _mean(lengths)
    figures["distinct_replies"] = _mean([len(set(mine)) / len(mine) for mine in replies.values()])
    figures["replies"] = len(every)
    figures["helpful_by_family"] = {
        name: _mean([truth.helpful for prompt, mine in truths.items() if families[prompt] == name for truth in mine])
        for name in sorted(set(families.values()))
    }
    return figures


def pointwise_figures(
    judge: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, replies: dict[str, list[str]]
) -> dict[str, Any]:
    """Agreement of the one-reply protocol with the oracle, per reply and per pair."""
    rows = [(prompt, reply) for prompt, mine in replies.items() for reply in mine[:JUDGED]]
    truths = [assess(prompt, reply) for prompt, reply in rows]
    odds = log_odds(judge, tokenizer, [Question(prompt, (reply,)) for prompt, reply in rows])
    first, second = _pair_indices(len(rows))
    utilities = torch.tensor([utility(truth) for truth in truths])
    strict = utilities[first] != utilities[second]
    wins = (utilities[first] > utilities[second])[strict]
    held = torch.tensor([truth[: len(PROPERTIES)] for truth in truths])
    figures: dict[str, Any] = {"pairs": int(strict.sum())}
    figures["agreement_by_aggregation"] = {
        name: _share((rule(odds[first], odds[second])[strict] > 0) == wins) for name, rule in AGGREGATIONS.items()
    }
    figures["yes_no_accuracy"] = {
        name: _share((odds[:, column] > 0) == held[:, column]) for column, name in enumerate(PROPERTIES)
    }
    figures["pair_agreement_by_principle"] = {}
    for column, name in enumerate(PROPERTIES):
        differs = held[first, column] != held[second, column]
        better = (odds[first, column] > odds[second, column])[differs]
        figures["pair_agreement_by_principle"][name] = _share(better == held[first, column][differs])
    return figures


def wording_figures(
    judge: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, replies: dict[str, list[str]]
) -> dict[str, float]:
    """Balanced yes/no accuracy per topic over all its wordings but the constitution's own; 0.5 is chance."""
    readings = [label(prompt, reply) for prompt, mine in replies.items() for reply in mine[:2]]
    questions = [Question(each.prompt, (each.reply,)) for each in readings]
    odds = log_odds(judge, tokenizer, questions, [wording.text for wording in OTHER_WORDINGS])
    by_topic: dict[str, list[float]] = {}
    for column, wording in enumerate(OTHER_WORDINGS):
        holds = torch.tensor([wording.holds(each.reading) for each in readings])
        yes = odds[:, column] > 0
        by_topic.setdefault(wording.topic, []).append((_share(yes[holds]) + _share(~yes[~holds])) / 2)
    return {topic: _mean(values) for topic, values in by_topic.items()}


def _pair_indices(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All pairs of replies to the same prompt; the replies of a prompt lie together."""
    pairs = [
        pair for start in range(0, count, JUDGED) for pair in itertools.combinations(range(start, start + JUDGED), 2)
    ]
    indices = torch.tensor(pairs)
    return indices[:, 0], indices[:, 1]


def pairwise_figures(
    judge: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, replies: dict[str, list[str]], seed: int
) -> dict[str, Any]:
    """Accuracy and flips of the two-reply protocol, on pairs where the truth under the principle differs."""
    rng = random.Random(seed)
    prompts = list(replies)
    questions = []
    for _ in range(PAIRWISE_PAIRS):
        prompt = rng.choice(prompts)
        questions.append(Question(prompt, tuple(rng.sample(replies[prompt][:JUDGED], 2))))
    forward = log_odds(judge, tokenizer, questions)
    backward = log_odds(judge, tokenizer, [question.swap() for question in questions])
    held = torch.tensor(
        [[assess(each.prompt, reply)[: len(PROPERTIES)] for reply in each.replies] for each in questions]
    )
    figures: dict[str, Any] = {"accuracy_one_order": {}, "accuracy_both_orders": {}, "flip_rate": {}}
    columns = {name: [column] for column, name in enumerate(PROPERTIES)} | {"all": list(range(len(PROPERTIES)))}
    for name, column in columns.items():
        differs = held[:, 0, column] != held[:, 1, column]
        a_wins, there, back = (each[:, column][differs] for each in (held[:, 0], forward, backward))
        right = torch.cat([(there > 0) == a_wins, (back > 0) == ~a_wins])
        figures["accuracy_one_order"][name] = _share(right)
        figures["accuracy_both_orders"][name] = _share((there - back > 0) == a_wins)
        figures["flip_rate"][name] = _share((there > 0) == (back > 0))
    values = held.float().sum(-1)
    strict = values[:, 0] != values[:, 1]
    wins = (values[:, 0] > values[:, 1])[strict]
    figures["agreement_overall"] = _share(((forward - backward).sum(-1)[strict] > 0) == wins)
    figures["pairs"] = len(questions)
    return figures


def _mean(values: list[Any]) -> float:
    return round(float(sum(values)) / max(1, len(values)), 4)


def _share(flags: torch.Tensor) -> float:
    return _mean(flags.tolist())


def measure(policy_folder: Path, judge_folder: Path, *, seed: int = SEED) -> dict[str, Any]:
    """Every figure, ready for JSON."""
    policy, tokenizer = models.load(policy_folder)
    judge, judge_tokenizer = models.load(judge_folder)
    print("measure: drawing held-out replies", flush=True)
    replies = heldout_replies(policy, tokenizer, REPLIES, seed)
    figures: dict[str, Any] = {"date": date.today().isoformat(), "seed": seed}
    figures["parameters"] = {"policy": models.parameter_count(policy), "judge": models.parameter_count(judge)}
    figures["policy"] = policy_figures(replies, tokenizer)
    print("measure: asking the judge about single replies", flush=True)
    figures["judge_pointwise"] = pointwise_figures(judge, judge_tokenizer, replies)
    figures["judge_other_wordings"] = wording_figures(judge, judge_tokenizer, replies)
    print("measure: asking the judge about pairs", flush=True)
    figures["judge_pairwise"] = pairwise_figures(judge, judge_tokenizer, replies, seed)
    return figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", type=Path, default=models.POLICY)
    parser.add_argument("--judge", type=Path, default=models.JUDGE)
    parser.add_argument("--out", type=Path, default=models.FOLDER / "measured.json")
    options = parser.parse_args()
    figures = measure(options.policy, options.judge)
    text = json.dumps(figures, indent=2)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
