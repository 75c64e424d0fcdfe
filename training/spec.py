"""What a training child is asked to do, as a file: one specification per task, without torch.

`launch` writes it, `child` reads it. The fingerprint says which settings decide the outcome; knobs that only change
memory or speed (micro-batch, gradient checkpointing, layout, processes, threads, save interval) are left out of it, so
that a run that ran out of memory resumes after `tokens_per_micro_batch` was lowered.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from ratify.canonical import digest, file_digest, model_digest
from ratify.errors import InputError
from ratify.policy_gradient_section import PolicyGradientSection
from ratify.sections import OptimiserSection, PreferenceSection, RewardModelSection, Section, SupervisedSection
from training.result import ensemble_of

KNOBS = frozenset(
    {
        "tokens_per_micro_batch",
        "gradient_checkpointing",
        "layout",
        "processes",
        "accelerate_config",
        "threads",
        "save_every_steps",
        "time_limit_s",
        "enabled",
    }
)
DATA_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")


class Task(Section):
    """What every task names."""

    data: Path
    """Parquet or JSON lines (plain or .gz), or a folder of such files."""
    out: Path
    """Folder of everything the task writes."""
    seed: int = 0
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature that divides the logits in every log-probability."""
    drop_bad_rows: bool = Field(default=False, exclude_if=lambda drop: not drop)
    """Preference rows that cannot be used are left out and counted instead of refused."""

    @property
    def model_paths(self) -> tuple[str, ...]:
        """The models that the task starts from."""
        raise NotImplementedError

    @property
    def further_data(self) -> tuple[Path, ...]:
        """Data besides `data` that decides the outcome."""
        return ()


class RewardModelTask(Task):
    """Train a reward model on preference rows."""

    task: Literal["reward_model"] = "reward_model"
    section: RewardModelSection = RewardModelSection()
    model: str
    """The policy; `section.init_from` goes before it."""

    @property
    def model_paths(self) -> tuple[str, ...]:
        """The one model that training starts from."""
        return (self.section.init_from or self.model,)


class PreferenceTask(Task):
    """Train a policy on preference rows; the reference is the policy before training."""

    task: Literal["preference"] = "preference"
    section: PreferenceSection = PreferenceSection()
    model: str

    @property
    def model_paths(self) -> tuple[str, ...]:
        """The policy before training."""
        return (self.model,)


class SupervisedTask(Task):
    """Fine-tune a policy on completions."""

    task: Literal["sft"] = "sft"
    section: SupervisedSection = SupervisedSection()
    model: str

    @property
    def model_paths(self) -> tuple[str, ...]:
        """The policy before training."""
        return (self.model,)


class AskedJudge(Section):
    """Where rewards are answered that training does not compute itself."""

    socket: Path
    """Unix socket of the process that launched the task."""
    identity: str
    """Hash of what decides the answers: judge, constitution, how they become a score."""


class PolicyGradientTask(Task):
    """Train a policy on its own samples; the reference is the policy before training. `data` holds prompts."""

    task: Literal["policy_gradient"] = "policy_gradient"
    section: PolicyGradientSection = PolicyGradientSection()
    model: str
    reward_model: str | None = None
    """Folder that rewards of kind `model` without folders use, with the other members if it is one of an ensemble's;
    a critic starts from it."""
    judge: AskedJudge | None = Field(default=None, exclude_if=lambda judge: judge is None)
    """Answers rewards of kind `judge` and `checks`."""

    @property
    def model_paths(self) -> tuple[str, ...]:
        """The policy before training and every reward model."""
        named = [path for reward in self.section.rewards if reward.kind == "model" for path in reward.models]
        return tuple(dict.fromkeys([self.model, *self.reward_models, *named]))

    @property
    def reward_models(self) -> tuple[str, ...]:
        """The members of the reward model that the task was given, one unless it is an ensemble."""
        return ensemble_of(self.reward_model) if self.reward_model else ()

    @property
    def rollouts(self) -> Path:
        """Folder in which a sampler outside the training process is given the weights."""
        return self.out / "rollouts"

    @property
    def further_data(self) -> tuple[Path, ...]:
        """The completions that PPO-ptx keeps up."""
        return (self.section.pretraining_data,) if self.section.pretraining_data else ()


class ScoreTask(Task):
    """Score completions with any number of policies and reward models."""

    task: Literal["score"] = "score"
    section: OptimiserSection = OptimiserSection()
    models: dict[str, str] = Field(min_length=1)
    """Name in the output → model folder; reward models are recognised by their configuration."""
    again: dict[str, str] = Field(default_factory=dict)
    """Further name → name of a model above that scores everything once more, every other row at a time, so that
    batches differ: what the two disagree by is the engine's, not the policy's."""

    @property
    def model_paths(self) -> tuple[str, ...]:
        """Every model that scores."""
        return tuple(self.models.values())


TrainSpec = Annotated[
    RewardModelTask | PreferenceTask | SupervisedTask | PolicyGradientTask | ScoreTask, Field(discriminator="task")
]
_ADAPTER: TypeAdapter[TrainSpec] = TypeAdapter(TrainSpec)


def load_spec(path: Path) -> TrainSpec:
    """Read a specification file."""
    return _ADAPTER.validate_json(path.read_bytes())


def data_files(path: Path) -> list[Path]:
    """The data files behind a path, a folder's in the order of their names.

    Raises:
        InputError: there is none, or the path's name says another format.
    """
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.name.endswith(DATA_SUFFIXES))
        if not found:
            raise InputError(f"{path}: no {', '.join(DATA_SUFFIXES)} file in this folder")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such data file")
    if not path.name.endswith(DATA_SUFFIXES):
        raise InputError(f"{path}: not a data file; give one that ends in {', '.join(DATA_SUFFIXES)}")
    return [path]


def fingerprint(spec: TrainSpec) -> str:
    """SHA-256 of everything that decides the outcome: task, settings, seed, data and models."""
    return digest(decisive(spec))


def decisive(spec: TrainSpec) -> dict[str, Any]:
    """What the fingerprint is of, by name; data and models as hashes.

    Raises:
        InputError: data or a model is missing.
    """
    settings: dict[str, Any] = json.loads(spec.model_dump_json(exclude={"out", "data"}))
    settings["section"] = {key: value for key, value in settings["section"].items() if key not in KNOBS}
    settings["data"] = [file_digest(path) for path in data_files(spec.data)]
    if spec.further_data:
        settings["further_data"] = [file_digest(path) for folder in spec.further_data for path in data_files(folder)]
        settings["section"].pop("pretraining_data", None)
    settings["models"] = [model_digest(path) for path in spec.model_paths]
    settings.pop("model", None)
    settings.pop("reward_model", None)
    if "judge" in settings:
        settings["judge"].pop("socket")
    return settings
