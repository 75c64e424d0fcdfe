"""Prefect flow `relabel-edit`: look whether a run's constitution was edited, plan the edit, apply it under limits.

A schedule looks every quarter of an hour; an editor's hook or a person may start it at once. What it shows and tells
are counts, principle ids and hashes; the constitution's text stays in its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.context import RunContext
from flows.find_run import run_folder
from flows.prefect_artifacts import link_pages
from flows.prefect_events import EDIT_APPLIED, EDIT_HELD, tell
from flows.prefect_progress import shown
from flows.prefect_tags import name_run, tag_run
from flows.relabel_cli import plan_lines
from flows.stages.limited_edit import EditLimits, Handled, handle_edit
from flows.stages.relabel import context_of

DEFAULT_LIMITS = EditLimits()


@flow(name="relabel-edit", flow_run_name=name_run)
def relabel_edit(run: str = "demo", constitution: str = "", limits: EditLimits = DEFAULT_LIMITS) -> State:
    """Plan what an edit of the constitution costs and changes; apply it only under every limit.

    Args:
        run: Folder of the run, or its name under runs/.
        constitution: The edited file; empty takes the one that the run names.
        limits: Over any of them a person decides.
    """
    known = context_of(run_folder(run))
    context = RunContext(known.config, known.round_number, shown)
    path = Path(constitution) if constitution else context.config.constitution
    tag_run(context.config.model_copy(update={"constitution": path}))
    handled = handle_edit(context, path, limits)
    return _told(context, handled)


def _told(context: RunContext, handled: Handled) -> State:
    name = context.config.run.name
    short, log = handled.constitution[:12], get_run_logger()
    if handled.outcome in ("held", "applied"):
        lines = plan_lines(dict(handled.figures))
        links = link_pages(handled.folder) if handled.folder else []
        create_markdown_artifact(
            key="edit", description=f"run {name}, constitution {short}", markdown=edit_markdown(handled, lines, links)
        )
        said: dict[str, Any] = {"constitution": short, "calls": handled.figures["calls"]}
        tell(EDIT_HELD if handled.outcome == "held" else EDIT_APPLIED, name, **said)
    log.info("constitution %s: %s%s", short, handled.outcome, "".join(f"; {why}" for why in handled.reasons))
    return Completed(name="Held" if "held" in handled.outcome else None, message=f"{short}: {handled.outcome}")


def edit_markdown(handled: Handled, lines: list[str], links: list[str]) -> str:
    """The plan, what became of it and what to do next."""
    after = {
        "held": ["Nothing was applied. `ratify apply` applies it whatever the limits say."],
        "applied": ["The new labels and the flip report are written; the next round trains on them.", *links],
    }[handled.outcome]
    head = [f"## {handled.outcome}", "", *(f"- {why}" for why in handled.reasons), "", "```", *lines, "```", ""]
    return "\n".join([*head, *after, ""])
