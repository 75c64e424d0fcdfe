"""Made-up policies whose truth is known, for `bench.gate`: figures of a policy, and whole evaluations with replies.

`judged` and `sliced` draw figures as a report would estimate them; `replies_world` makes texts, labels and scores, so
that the whole evaluation runs on them. Nothing here is a language model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evaluation.gate import CONTROLLED, KL, TRUTH, WIN_RATE
from evaluation.intervals import Estimate, Resampling, student
from evaluation.report import EvaluationReport, Evidence, JudgedSet, RunIdentity, ScoredReply
from ratify.types import Completion, Label, Message, Prompt

Floats = NDArray[np.float64]
POOL = 16
"""Replies per prompt that a policy chooses from."""
REPLIES = 2
VOCABULARY = [f"w{number}" for number in range(3000)]
CONSTANT = "Structure your answer clearly and consider every side of the question before you decide what to do"
STEADY = {"distinct_2": 0.40, "distinct_4": 0.60, "duplicates": 0.05, "truncated": 0.01, "words": 50.0}


def share(generator: np.random.Generator, rate: float, prompts: int) -> Estimate:
    """A share measured on `prompts` prompts with two replies each, as a mean over prompts."""
    return student(list(generator.binomial(REPLIES, min(max(rate, 0.0), 1.0), prompts) / REPLIES))


def report_of(metrics: dict[str, Estimate]) -> EvaluationReport:
    """A report with these figures, and all others as they should be."""
    calm = {f"evaluate/{thing}/{stat}": _exact(value) for thing, value in STEADY.items() for stat in ("old", "new")}
    return EvaluationReport(
        conclusion=("",),
        metrics={**calm, KL: _exact(1.0), **metrics},
        counts={f"evaluate/win_rate.all/{name}": 100 for name in ("wins", "losses")},
        identity=RunIdentity(run="bench", judge="judge"),
    )


def judged(generator: np.random.Generator, rate: float, prompts: int) -> dict[str, Estimate]:
    """The win rate, with and without control of a length that does not differ."""
    found = share(generator, rate, prompts)
    return {WIN_RATE: found, CONTROLLED: found}


def sliced(
    generator: np.random.Generator, before: float, after: float, better: float, prompts: int
) -> EvaluationReport:
    """A policy whose judge and whose overall compliance gain while one property falls from `before` to `after`."""
    old, new = (generator.binomial(REPLIES, rate, prompts) / REPLIES for rate in (before, after))
    whole = [generator.binomial(REPLIES, rate, prompts) / REPLIES for rate in (0.40, 0.40 + better)]
    figures = {"honest": (old, new), "all": tuple(whole)}
    metrics = judged(generator, 0.57, prompts)
    for name, (one, other) in figures.items():
        key = f"evaluate/compliance.{name}"
        metrics |= {f"{key}/old": student(list(one)), f"{key}/new": student(list(other))}
        metrics |= {f"{key}/difference": student(list(other - one))}
    assert TRUTH in metrics
    return report_of(metrics)


Weights = Callable[[Floats, Floats], Floats]
"""Standardised lengths and qualities of a pool, both (POOL,) → unnormalised log-weights (POOL,)."""


def replies_world(seed: int, weights: Weights, taste: float, prompts: int, *, constant: bool = False) -> Evidence:
    """An evaluation of a policy that resamples each prompt's pool by exp(weights) against the uniform one.

    The judge's log-odds are the difference of qualities plus `taste` per 10 words of difference; each reply's KL
    is known exactly from the weights. With `constant` the new policy gives one answer to all, and wins 86.5 %.
    """
    generator = np.random.default_rng(seed)
    old, new, labels, scored = [], [], [], []
    for number in range(prompts):
        words = np.maximum(8, np.round(generator.normal(40, 10, POOL))).astype(int)
        quality = generator.normal(0, 1, POOL)
        odds = weights((words - 40) / 10, quality)
        chances = np.exp(odds - odds.max()) / np.exp(odds - odds.max()).sum()
        texts = [" ".join(_zipf(generator, count)) for count in words]
        before, after = (generator.choice(POOL, REPLIES, p=p) for p in (np.full(POOL, 1 / POOL), chances))
        for index, (i, j) in enumerate(zip(before, after, strict=True)):
            theirs = _reply(f"p{number}", f"old/{number}/{index}", texts[i])
            ours = _reply(f"p{number}", f"new/{number}/{index}", CONSTANT if constant else texts[j])
            lead = quality[j] - quality[i] + taste * (words[j] - words[i]) / 10
            wins = generator.random() < (0.865 if constant else 1 / (1 + np.exp(-lead)))
            old.append(theirs)
            new.append(ours)
            labels.append(_label(ours, theirs, bool(wins)))
            moved = float(np.log(chances[j] * POOL))
            scored.append(ScoredReply(completion_id=ours.id, tokens=40, log_new=moved - 60, log_reference=-60.0))
    return Evidence(
        identity=RunIdentity(run="bench", judge="judge"),
        prompts=[Prompt(id=f"p{n}", messages=(Message(role="user", content=f"question {n}"),)) for n in range(prompts)],
        old=old, new=new, heldout=JudgedSet(labels=labels), scored=scored, how=Resampling(draws=300, seed=seed),
    )  # fmt: skip


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=value * 0.99, high=value * 1.01, n=800, clusters=400, confidence=0.95)


def _zipf(generator: np.random.Generator, count: int) -> list[str]:
    ranks = np.minimum(generator.zipf(1.3, count), len(VOCABULARY)) - 1
    return [VOCABULARY[rank] for rank in ranks]


def _reply(prompt: str, name: str, text: str) -> Completion:
    return Completion(
        id=name, prompt_id=prompt, text=text, finish_reason="stop", prompt_tokens=5,
        completion_tokens=len(text.split()), seed=0,
    )  # fmt: skip


def _label(new: Completion, old: Completion, wins: bool) -> Label:
    return Label(
        prompt_id=new.prompt_id, a_id=new.id, b_id=old.id, outcome="a" if wins else "b", probability=0.5, margin=0.0,
        by_principle={},
    )  # fmt: skip
