"""Several reward models of the same labels, and where they disagree (Coste et al., arXiv 2310.02743).

Members differ in what chance decides: the new head, the adapter, the order of the data. Where they disagree the data
says little, and a policy that is trained against their minimum, or their mean less their variance, finds less to
exploit there (`rewards.Ensemble`). Left out: members of other sizes, and members pretrained apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ratify.sections import RewardModelSection
from training.adapters import adapted
from training.data import Element
from training.encoding import Encoder
from training.models import draw_head, reward_model_from
from training.pairs import correct, pair_index


class Disagreement(NamedTuple):
    """What members say of the same pairs."""

    accuracy: float
    """Share of pairs that their mean orders as the labels do."""
    spread: float
    """Mean over pairs of the standard deviation of their reward difference, in rewards."""
    split: float
    """Share of pairs that not all of them order alike."""


def disagreement(values: Sequence[Sequence[Tensor]], elements: Sequence[Element]) -> Disagreement:
    """Compare members on held-out pairs.

    Args:
        values: for each member and each element the rewards of its completions, (K,).
        elements: with their pairs.
    """
    pairs = pair_index(elements, torch.device("cpu"), soft=False)
    value_EN = torch.stack([torch.cat(list(own)).double() for own in values])
    difference_EP = value_EN[:, pairs.chosen_P] - value_EN[:, pairs.rejected_P]
    mean_P = difference_EP.mean(0)
    sign_EP = difference_EP.sign()
    return Disagreement(
        accuracy=float(correct(mean_P, torch.zeros_like(mean_P)).mean()),
        spread=float(difference_EP.std(0, correction=0).mean()),
        split=float((sign_EP != sign_EP[0]).any(0).double().mean()),
    )


def starts(section: RewardModelSection, source: str, encoder: Encoder, seed: int) -> Iterator[PreTrainedModel]:
    """What each member starts as, one after the other; with adapters all are over one base."""
    if section.lora is None:
        yield from (reward_model_from(source, encoder, seed + number) for number in range(section.members))
        return
    base = reward_model_from(source, encoder, seed)
    for number in range(section.members):
        member = adapted(base, section.lora, "reward", seed + number)
        draw_head(member, seed + number)
        yield member


def member_folder(out: Path, number: int) -> Path:
    """Where a member's model lies: the first is the task's own `model`."""
    return out / (f"model-{number}" if number else "model")
