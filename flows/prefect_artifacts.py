"""Sends what a finished stage left behind to Prefect's page, each thing under one key for good.

A key's page is its history: that of `gate` and `drift` reads as the project's. Reports are linked where the report
server of `ratify up` serves them. Left out: what the tables and texts hold (`flows/stage_artifacts.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from evaluation.gate_record import read_gate
from evaluation.report import EvaluationReport, read_report
from flows import stage_artifacts as drawn
from flows.context import RunContext
from flows.prefect_events import GATE, GATE_REJECTED, tell
from flows.stages.stage import Stage
from ratify.promotions import Promotions
from ratify.run_store import Manifest, RunStore

EVALUATE = "evaluate"
PAGES = ("report.html", "revisions.html", "flips.html")


def publish(stage: Stage, manifest: Manifest, context: RunContext) -> None:
    """A stage's table, its summary, its page; after an evaluation the gate and the drift of the run."""
    place, key = context.stage(stage.name).path, slug(stage.name)
    where = f"run {context.config.run.name}, round {context.round_number}"
    create_table_artifact(key=key, description=f"{stage.title}: {where}", table=drawn.stage_table(manifest.metrics))
    summary = stage.summary(manifest.metrics)
    curves = drawn.training_curves(place / "metrics.jsonl")
    text = drawn.stage_markdown(stage.title, summary, manifest.seconds, curves, link_pages(place))
    create_markdown_artifact(key=f"{key}-summary", description=where, markdown=text)
    if stage.name == EVALUATE:
        publish_evaluation(context, where)


def publish_evaluation(context: RunContext, where: str) -> None:
    """The gate's verdict, the run's drift, and an event for whoever listens."""
    run, place = context.config.run_dir, context.stage(EVALUATE).path
    verdict = read_gate(place / "gate.json")
    if verdict is None:
        return
    reports = evaluated(run)
    text = drawn.gate_markdown(verdict, Promotions(run).events(), reports)
    create_markdown_artifact(key="gate", description=where, markdown=text)
    create_markdown_artifact(key="drift", description=where, markdown=drawn.drift_markdown(reports))
    name, said = context.config.run.name, {"decision": verdict.decision, "round": context.round_number}
    tell(GATE, name, **said)
    if verdict.decision == "REJECT":
        tell(GATE_REJECTED, name, why=verdict.deciding[0].text, **said)


def evaluated(run: Path) -> list[EvaluationReport]:
    """The reports of a run's finished evaluations, by round."""
    stages = [RunStore(run).stage(EVALUATE, number) for number in RunStore(run).rounds()]
    return [read_report(stage.path / "report.json") for stage in stages if stage.manifest()]


def link_pages(folder: Path) -> list[str]:
    """Links to a folder's pages, sent as artifacts of their own and given back as Markdown."""
    lines = []
    for path in (folder / name for name in PAGES):
        address = served_at(path)
        if path.is_file() and address:
            create_link_artifact(
                key=slug(path.stem), link=address, link_text=f"{path.name} of {folder.parent.parent.name}"
            )
            lines.append(f"[{path.name}]({address})")
        elif path.is_file():
            lines.append(f"`{path}`")
    return lines


def served_at(path: Path) -> str | None:
    """Where the report server serves a file; None without one, or when the file does not lie in its folder."""
    address, root = os.environ.get("RATIFY_REPORTS_URL"), os.environ.get("RATIFY_REPORTS_ROOT")
    if not address or not root or not path.resolve().is_relative_to(root):
        return None
    return f"{address}/{quote(str(path.resolve().relative_to(root)))}"


def slug(name: str) -> str:
    """A name as artifact keys allow it."""
    return name.replace("_", "-").lower()
