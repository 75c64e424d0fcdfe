"""`ratify label-parts CONFIG --of N`: judge a round's questions in parts on the nodes of a Ray cluster.

Only the command line; what is done is `flows/stages/ray_parts.py`, and as a Prefect flow `flows/label_parts.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.context import RunContext
from ratify.config import Config, load_config

if TYPE_CHECKING:
    from flows.stages.ray_node import Answer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("label-parts", rich_help_panel="More than one machine")(label_parts)


def label_parts(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides.")] = None,
    *,
    of: Annotated[int, typer.Option(help="How many parts there are; a few for each processor of the cluster.", min=1)],
    ray: Annotated[str, typer.Option(envvar="RAY_ADDRESS", help="HOST:PORT of the cluster, as `ray start` prints it.")],
    round_number: Annotated[int, typer.Option("--round", help="The round.", min=0)] = 0,
    no_prefect: Annotated[bool, typer.Option("--no-prefect", help="Do the same without Prefect.")] = False,
) -> None:
    """Judge a round's questions in parts on a Ray cluster that runs already; `ratify label` then finds every verdict.

    A part whose node dies is begun again elsewhere. Keys come from the environment of each node's `ray start`.
    """
    resolved = load_config(config, overrides or ())
    answers = (_plainly if no_prefect else _with_prefect)(resolved, of, ray, round_number)
    nodes = len({each.node for each in answers})
    needed, reused, failed = (sum(getattr(each, name) for each in answers) for name in ("needed", "reused", "failed"))
    print(
        f"{of} parts on {nodes} nodes: {needed:,} verdicts needed, {reused:,} were stored, {failed:,} failed; "
        "`ratify label` now writes the labels"
    )


def _plainly(config: Config, of: int, ray: str, round_number: int) -> list[Answer]:
    from flows.stages.ray_parts import judge_all, ray_parts

    context = RunContext(config, round_number)
    with context.run.lock(), ray_parts(context, of, ray) as parts:
        return judge_all(context, parts, parts.judge)


def _with_prefect(config: Config, of: int, ray: str, round_number: int) -> list[Answer]:
    from flows.prefect_run import run_flow
    from flows.stages.ray_node import Answer

    answers = run_flow("label_parts", config, of=of, ray=ray, round_number=round_number)
    return [Answer.model_validate_json(each) for each in answers]
