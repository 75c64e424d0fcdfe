"""`ratify label-part CONFIG --part I --of N`: judge one part of a round's questions, beside other parts elsewhere.

Only the command line; what a part is tells `flows/stages/label_part.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from flows.context import RunContext
from ratify.config import load_config
from ratify.errors import ConfigError

KUBERNETES_INDEX = "JOB_COMPLETION_INDEX"
"""Kubernetes tells each pod of an indexed job which one it is."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("label-part", rich_help_panel="More than one machine")(label_part)


def label_part(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file, the same for all parts.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides.")] = None,
    *,
    of: Annotated[int, typer.Option(help="How many parts there are.", min=1)],
    part: Annotated[
        int | None, typer.Option(help="Which one this is, from 0; in a Kubernetes job its completion index.")
    ] = None,
    round_number: Annotated[int, typer.Option("--round", help="The round.", min=0)] = 0,
) -> None:
    """Judge one part of a round's questions into the shared verdict store; `ratify label` then finds them all."""
    from flows.stages.label_part import judge_part

    number = part if part is not None else _from_kubernetes()
    statistics = judge_part(RunContext(load_config(config, overrides or ()), round_number), number, of).statistics
    print(
        f"part {number} of {of}: {statistics.needed:,} verdicts needed, {statistics.reused:,} were stored, "
        f"{statistics.failed:,} failed"
    )


def _from_kubernetes() -> int:
    index = os.environ.get(KUBERNETES_INDEX, "")
    if not index.isdigit():
        raise ConfigError(
            f"which part is this? give --part, or run it in an indexed job, which sets {KUBERNETES_INDEX}"
        )
    return int(index)
