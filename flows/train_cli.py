"""`ratify train OBJECTIVE --data PATH`: one training task on a preference file, without the rest of the pipeline.

For people who have labels already and want an objective: any file in the formats that TRL's trainers read. Left out:
what is trained (`training/`), and `ratify train CONFIG`, which trains on a run's own labels (`cli`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from ratify.config import load_section
from ratify.errors import ConfigError
from ratify.progress import progress
from ratify.sections import ObjectiveName, PreferenceSection, RewardModelSection, SupervisedSection
from training.cost import COST_PHASE, sentence
from training.devices import machine_rank
from training.launch import launch
from training.result import TrainResult
from training.spec import PreferenceTask, RewardModelTask, SupervisedTask, TrainSpec

PREFERENCE_OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
OBJECTIVES = ("sft", "reward_model", *PREFERENCE_OBJECTIVES)
"""What can be trained from a file."""


def train_on_file(
    objective: str, overrides: list[str], *, data: Path, model: str | None, out: Path | None, seed: int, drop: bool
) -> None:
    """Train `model` on the rows of `data` and say what came out.

    Raises:
        ConfigError: an unknown objective or setting, or no model.
        InputError: data or model cannot be used.
        TrainingError: training stopped.
    """
    spec = make_spec(objective, overrides, data=data, model=model, out=out, seed=seed, drop=drop)
    if machine_rank(spec.section):
        from flows.join_training import join_task

        join_task(spec, f"training {objective}")
        return
    with progress(f"training {objective}") as display:

        def report(step: int, steps: int, metrics: Mapping[str, object]) -> None:
            if metrics.get("phase") == COST_PHASE:
                display.say(sentence(metrics))
                return
            shown = [f"{name} {metrics[name]:.3f}" for name in ("loss", "accuracy") if name in metrics]
            display.update(step, steps, " ".join([str(metrics.get("phase", "")), *shown]).strip())

        result = launch(spec, report)
    _show(objective, result)


def make_spec(
    objective: str, overrides: list[str], *, data: Path, model: str | None, out: Path | None, seed: int, drop: bool
) -> TrainSpec:
    """The task that a command line asks for.

    Raises:
        ConfigError: an unknown objective or setting, or no model.
    """
    if objective not in OBJECTIVES:
        raise ConfigError(f"there is no objective {objective!r} to train from a file; choose {', '.join(OBJECTIVES)}")
    if model is None:
        raise ConfigError("--data needs --model: a folder or hub name of the Hugging Face model to train")
    files: dict[str, Any] = {
        "data": data,
        "model": model,
        "out": out or Path("runs") / f"train-{objective}",
        "drop_bad_rows": drop,
    }
    if objective == "sft":
        return SupervisedTask(section=load_section(SupervisedSection, overrides), seed=seed, **files)
    if objective == "reward_model":
        return RewardModelTask(section=load_section(RewardModelSection, overrides), seed=seed, **files)
    section = load_section(PreferenceSection, [f'objective="{objective}"', *overrides])
    return PreferenceTask(section=section, seed=seed, **files)


def _show(objective: str, result: TrainResult) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=f"{objective}: what training measured", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in sorted(result.metrics.items()):
        whole = isinstance(value, int) or float(value).is_integer()
        table.add_row(name, f"{value:,.0f}" if whole else f"{value:,.4f}")
    console.print(table)
    if result.stopped_early:
        console.print(f"stopped early: {result.stopped_early}")
    console.print(f"model: {result.model}")
