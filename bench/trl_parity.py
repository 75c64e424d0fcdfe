"""Loss and gradient of TRL 1.16's own trainers beside ours, on random prompts and completions.

    PYTHON_WITH_TRL -m bench.trl_parity

PYTHON_WITH_TRL has TRL 1.16 beside the packages of the lock (`pip install --no-deps trl==1.16.0` in an environment of
its own). Both sides hold the demo's policy with noise on its weights, the reference is the policy without; TRL computes
padded rows, ours prefix trees. Prints for each task both losses and the relative difference of loss and of the whole
gradient; ends with an error if one exceeds 1e-4. Left out: KTO and the reference-free objectives, whose numbers by
TRL's code are in the tests.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this file is nothing without it
from torch import Tensor, nn  # noqa: TID253

from ratify.lineage import ROOT
from ratify.sections import PreferenceSection, RewardModelSection
from training.data import Element, Pair
from training.models import load_encoder, load_policy, reward_model_from
from training.preference import PreferenceObjective
from training.reward_model import RewardObjective
from training.scorers import PolicyScorer, RewardScorer
from training.supervised import SupervisedObjective
from training.tree import token_batch

MODEL = str(ROOT / "data" / "demo" / "policy")
LIMIT = 1e-4
DPO_LOSSES: dict[str, dict[str, Any]] = {
    "sigmoid": {"objective": "dpo"},
    "ipo": {"objective": "ipo_mean"},
    "hinge": {"objective": "hinge"},
    "robust": {"objective": "robust", "label_smoothing": 0.2},
    "apo_zero": {"objective": "apo_zero"},
    "apo_down": {"objective": "apo_down"},
}


def elements(count: int = 6) -> list[Element]:
    """Random prompts with two completions each, chosen first."""
    draw = random.Random(7)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(10, 1500) for _ in range(draw.randint(low, high)))

    return [
        Element(f"p{n}", tokens(5, 40), (tokens(1, 25), tokens(1, 25)), (Pair(0, 1, 1.0, 0.3 + n / 10),))
        for n in range(count)
    ]


def rows(found: list[Element], sides: int) -> dict[str, Tensor]:
    """Padded rows, all chosen before all rejected, as TRL's collators lay them out."""
    pairs = [(element.prompt, element.completions[side]) for side in range(sides) for element in found]
    width = max(len(prompt) + len(completion) for prompt, completion in pairs)
    ids, attention, completions = (torch.zeros(len(pairs), width, dtype=torch.long) for _ in range(3))
    for row, (prompt, completion) in enumerate(pairs):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor([*prompt, *completion])
        attention[row, :end] = 1
        completions[row, len(prompt) : end] = 1
    return {"input_ids": ids, "attention_mask": attention, "completion_mask": completions}


def noisy(model: Any) -> Any:
    """The model with noise on every weight, the same each time."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    """The whole gradient as one vector, by the parameters' names."""
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    named = sorted((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    return torch.cat([grad.flatten() for _, grad in named])


def ours(model: Any, scorer: nn.Module, objective: Any, found: list[Element]) -> tuple[float, Tensor]:
    """Loss of one step and its gradient."""
    terms = objective.terms(scorer, found, token_batch(found, "tree"))
    loss = terms.loss_sum / sum(map(objective.weight, found))
    return float(loss), gradient(model, loss)


def theirs(trainer: Any, batch: dict[str, Tensor]) -> tuple[float, Tensor]:
    """Likewise by a trainer of TRL."""
    trainer.model.eval()
    loss = trainer.compute_loss(trainer.model, batch)
    return float(loss), gradient(trainer.model, loss)


def preference(folder: Path, name: str) -> tuple[tuple[float, Tensor], tuple[float, Tensor]]:
    """One loss of the DPO family."""
    from trl import DPOConfig, DPOTrainer  # noqa: TID251 - the peer

    found, settings = elements(), {"beta": 0.3, **DPO_LOSSES[name]}
    reference = load_policy(MODEL).eval()
    with torch.no_grad():
        known = list(PolicyScorer(reference)(token_batch(found, "tree")).sum_N.split(2))
    model = noisy(load_policy(MODEL))
    mine = ours(model, PolicyScorer(model), PreferenceObjective(PreferenceSection(**settings), found, known), found)
    smoothing = {"label_smoothing": settings["label_smoothing"]} if "label_smoothing" in settings else {}
    options = DPOConfig(beta=0.3, loss_type=[name], **smoothing, **shared(folder))
    data = dataset([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    trainer = DPOTrainer(
        noisy(load_policy(MODEL)), reference, options, train_dataset=data, processing_class=tokenizer()
    )
    return mine, theirs(trainer, rows(found, 2))


def reward(folder: Path, name: str) -> tuple[tuple[float, Tensor], tuple[float, Tensor]]:
    """The reward model's loss, plain or with margins and centring."""
    from trl import RewardConfig, RewardTrainer  # noqa: TID251

    found, more = elements(), name == "margin, centring"
    section = RewardModelSection(centering=0.01 if more else 0.0, margin_scale=1.0 if more else None)
    model = noisy(reward_model_from(MODEL, load_encoder(MODEL), 0))
    mine = ours(model, RewardScorer(model), RewardObjective(section), found)
    options = RewardConfig(center_rewards_coefficient=0.01 if more else None, **shared(folder))
    data = dataset([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    trainer = RewardTrainer(
        noisy(reward_model_from(MODEL, load_encoder(MODEL), 0)),
        options,
        train_dataset=data,
        processing_class=tokenizer(),
    )
    batch = rows(found, 2)
    batch.pop("completion_mask")
    if more:
        batch["margin"] = torch.tensor([element.pairs[0].margin for element in found])
    return mine, theirs(trainer, batch)


def fine_tuning(folder: Path, _name: str) -> tuple[tuple[float, Tensor], tuple[float, Tensor]]:
    """Completion-only loss, mean over tokens."""
    from trl import SFTConfig, SFTTrainer  # noqa: TID251

    found = elements()
    model = noisy(load_policy(MODEL))
    mine = ours(model, PolicyScorer(model), SupervisedObjective(), found)
    data = dataset([{"prompt": "a", "completion": "b"}])
    trainer = SFTTrainer(
        noisy(load_policy(MODEL)), SFTConfig(**shared(folder)), train_dataset=data, processing_class=tokenizer()
    )
    batch = rows(found, 2)
    batch["labels"] = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    return mine, theirs(trainer, batch)


def shared(folder: Path) -> dict[str, Any]:
    """Settings of every trainer."""
    return {"output_dir": str(folder), "report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False}


def dataset(found: list[dict[str, str]]) -> Any:
    """What a trainer needs to be made; the batches are handed in."""
    from datasets import Dataset

    return Dataset.from_list(found)


def tokenizer() -> Any:
    """The demo's."""
    return load_encoder(MODEL).tokenizer


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    cases: list[tuple[str, Callable[[Path, str], Any], str]] = [
        *((f"preference {name}", preference, name) for name in DPO_LOSSES),
        ("reward model", reward, "plain"),
        ("reward model, margin, centring", reward, "margin, centring"),
        ("fine-tuning", fine_tuning, ""),
    ]
    print(f"{'task':34}{'TRL':>12}{'ours':>12}{'loss':>10}{'gradient':>10}")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for title, case, name in cases:
            (mine, my_gradient), (other, their_gradient) = case(Path(folder), name)
            gaps = abs(mine - other) / abs(other), float((my_gradient - their_gradient).norm() / their_gradient.norm())
            worst = max(worst, *gaps)
            print(f"{title:34}{other:>12.6f}{mine:>12.6f}{gaps[0]:>10.1e}{gaps[1]:>10.1e}")
    if not worst <= LIMIT:
        sys.exit(f"a difference exceeds {LIMIT}")


if __name__ == "__main__":
    main()
