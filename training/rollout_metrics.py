"""Figures of a rollout batch for metrics.jsonl: rewards part by part, KL, lengths, sampler against trainer, critic.

Left out: figures of optimiser steps (their objectives give those).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.advantages import Outcomes
from training.losses.policy_gradient import ratio
from training.rollout_sample import Sample

RATIO_EDGES = (0.5, 0.8, 0.95, 1.05, 1.25, 2.0)
"""Bounds of the histogram of π_trainer/π_sampler over tokens."""


def describe(sample: Sample) -> dict[str, float]:
    """Of a batch before learning."""
    rollouts = sample.batch.rollouts
    old_M, reference_M = torch.cat(sample.old).double(), torch.cat(sample.reference).double()
    has_N = sample.scored.has_score_N
    found = {
        "completions": float(len(rollouts)),
        "scored": float(has_N.double().mean()),
        "finished": sum(rollout.sampled.finish_reason == "stop" for rollout in rollouts) / len(rollouts),
        "completion_tokens": len(old_M) / len(rollouts),
        "kl": float((old_M - reference_M).sum()) / len(rollouts),
        "entropy": -float(old_M.mean()),
        **sampler_ratio(old_M, torch.cat(sample.sampler).double()),
    }
    for name, part_N in {"reward": sample.scored.value_N, **_named(sample.scored.parts)}.items():
        if not part_N.isnan().all():
            found[name] = float(part_N.nanmean())
    if has_N.any():
        found["reward_sd"] = float(sample.scored.value_N[has_N].std(correction=0))
    return found


def _named(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"reward/{name}": part_N for name, part_N in parts.items()}


def sampler_ratio(trainer_M: Tensor, sampler_M: Tensor) -> dict[str, float]:
    """Mean, largest and histogram (shares of tokens) of π_trainer/π_sampler; 1 where both compute alike."""
    ratio_M = ratio(trainer_M, sampler_M)
    edges = torch.tensor(RATIO_EDGES, dtype=ratio_M.dtype)
    shares = torch.bincount(torch.bucketize(ratio_M, edges), minlength=len(RATIO_EDGES) + 1) / len(ratio_M)
    names = [f"to_{edge:g}" for edge in RATIO_EDGES] + [f"above_{RATIO_EDGES[-1]:g}"]
    histogram = {f"sampler_ratio/{name}": float(part) for name, part in zip(names, shares, strict=True)}
    return {"sampler_ratio": float(ratio_M.mean()), "sampler_ratio_max": float(ratio_M.max()), **histogram}


def of_advantages(outcomes: Outcomes, advantage_NT: Tensor, return_NT: Tensor) -> dict[str, float]:
    """Spread of advantages before whitening, prompts without a signal, and what the critic explains."""
    counted_NT = outcomes.counted_NT
    if not counted_NT.any():
        return {}
    silent_N = (advantage_NT.abs() * counted_NT).sum(1) < 1e-8
    found = {
        "advantage_sd": float(advantage_NT[counted_NT].std(correction=0)),
        "without_signal": float(silent_N.double().mean()),
    }
    if outcomes.value_NT is not None:
        target_M, value_M = return_NT[counted_NT].double(), outcomes.value_NT[counted_NT].double()
        variance = float(target_M.var(correction=0))
        if variance > 0:
            found["explained_variance"] = 1 - float((target_M - value_M).var(correction=0)) / variance
        found["value"] = float(value_M.mean())
    return found


def combined(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the optimiser steps of a batch; tokens are summed."""
    names = {name for means in found for name in means}
    result = {}
    for name in sorted(names):
        values = [means[name] for means in found if name in means]
        result[name] = sum(values) if name == "tokens" else sum(values) / len(values)
    return result
