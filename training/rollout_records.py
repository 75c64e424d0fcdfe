"""Completions of policy gradients kept on disk, one file a step: what over-optimisation is seen by.

A proxy's mean rises by itself; whether the completions got better can only be judged on their texts. A resumed run
writes the same files again. Left out: what is made of them (`evaluation/over_optimisation.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ratify.files import write_records
from ratify.types import RolloutRecord
from training.rollout_sample import Sample

FOLDER = "rollouts"


def write_rollouts(out: Path, step: int, sample: Sample) -> None:
    """Write the completions of a step, sampled before its learning, to `out/rollouts/step-NNNNNN.jsonl`."""
    write_records(out / FOLDER / f"step-{step:06d}.jsonl", _records(sample))


def _records(sample: Sample) -> Iterator[RolloutRecord]:
    counts = sample.counts
    log_ratio_M = torch.cat(sample.old).double() - torch.cat(sample.reference).double()
    sums_N = [float(part.sum()) for part in torch.split(log_ratio_M, counts)]
    values_N = sample.scored.value_N.tolist()
    scored_N = sample.scored.has_score_N.tolist()
    for rollout, log_ratio, tokens, value, scored in zip(
        sample.batch.rollouts, sums_N, counts, values_N, scored_N, strict=True
    ):
        yield RolloutRecord(
            prompt_id=rollout.item.prompt_id,
            text=rollout.text,
            reward=value if scored else None,
            log_ratio=log_ratio,
            tokens=tokens,
        )
