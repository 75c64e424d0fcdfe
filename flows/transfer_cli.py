"""`ratify push RUN URL` and `ratify pull URL RUN`: a run's finished stages to and from anywhere that fsspec knows.

Only the command line; the transfer is `flows/stages/transfer.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ratify.errors import ConfigError

PANEL = "More than one machine"
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name under runs/.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="A folder, or an fsspec URL such as s3://bucket/runs/demo.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (push, pull):
        app.command(rich_help_panel=PANEL)(command)


def push(run_name: Run, url: Url) -> None:
    """Copy a run's finished stages to a URL; every file is checked against its hash, manifests come last."""
    from flows.find_run import run_folder
    from flows.stages import transfer
    from ratify.progress import progress

    run = run_folder(run_name)
    with progress(f"pushing {run.name}") as shown:
        print(f"pushed {run} to {url}: {sentence(transfer.push(run, url, shown))}")


def pull(
    url: Url,
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A name under runs/, or a folder by its path.")],
) -> None:
    """Copy the stages at a URL into a run; what is there already and whole is not copied again."""
    from flows.stages import transfer
    from ratify.progress import progress

    run = target(run_name)
    with progress(f"pulling {run.name}") as shown:
        print(f"pulled {url} into {run}: {sentence(transfer.pull(url, run, shown))}")


def target(name: str) -> Path:
    """Where a run is pulled to: a plain name goes under `runs/`, a path is taken as it is."""
    if "/" in name:
        return Path(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"{name!r} is no name of a run: letters, digits, dots, dashes, and no dot in front")
    return Path("runs") / name


def sentence(done: object) -> str:
    """What was copied, in words."""
    from flows.stages.transfer import Transferred

    assert isinstance(done, Transferred)
    return f"{done.stages} stages, {done.files} files ({done.bytes / 1e6:,.1f} MB), {done.skipped} were there already"
