"""Bring a trained reward to mean 0 and standard deviation 1 on completions of the reference policy.

Bradley-Terry fixes a reward up to a constant, and its scale says how sure the labels are; a policy gradient wants
neither (arXiv 1909.08593, section 2.1, normalises the same way). The scale is folded into the head's weights, so every
reader of the folder sees it. The constant goes into the configuration as `reward_offset`, because the heads of
sequence-classification models have no bias: `RewardScorer` takes it off, and a reader who does not know it gets rewards
that are off by one constant, which no comparison of rewards can tell. Left out: moments that move during training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ratify.errors import TrainingError
from training.scorers import OFFSET


class Moments(NamedTuple):
    """Of rewards, before they are normalised."""

    mean: float
    sd: float


def moments(values: Sequence[Tensor]) -> Moments:
    """Mean and standard deviation over all completions, (K,) for each element.

    Raises:
        TrainingError: all rewards are equal.
    """
    flat_N = torch.cat(list(values)).double()
    found = Moments(float(flat_N.mean()), float(flat_N.std(correction=0)))
    if not found.sd > 0:
        raise TrainingError("the trained rewards are all equal and cannot be normalised; set normalise = false")
    return found


def fold(model: PreTrainedModel, found: Moments) -> None:
    """Change the model in place so that r becomes (r − mean)/sd."""
    with torch.no_grad():
        cast(nn.Linear, model.score).weight.div_(found.sd)
    setattr(model.config, OFFSET, found.mean / found.sd)
    # σ(scale · difference) is then again the probability that the likelihood was trained for.
    model.config.reward_scale = found.sd
