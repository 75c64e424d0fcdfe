"""The result of critique-and-revision as one offline page, with replies beside their critiques and revisions.

A function of the report alone. Made like the evaluation report: no script, no network, everything escaped, a content
security policy besides.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.revision_views import (
    PRINCIPLE_HEAD,
    STEP_HEAD,
    TRUTH_HEAD,
    caption,
    conclusion,
    has_result,
    principle_rows,
    step_rows,
    truth_rows,
    warnings,
)
from evaluation.revisions import RevisionReport
from ratify.files import write_text

TEMPLATES = Path(__file__).parent / "templates"


def write_revision_page(path: Path, report: RevisionReport) -> None:
    """Write the page."""
    write_text(path, render_revisions(report))


def render_revisions(report: RevisionReport) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found = has_result(report)
    tables = [
        (STEP_HEAD, step_rows(report)),
        (PRINCIPLE_HEAD, principle_rows(report)),
        (TRUTH_HEAD, truth_rows(report)),
    ]
    return environment.get_template("revisions.html.j2").render(
        title=report.title,
        conclusion=conclusion(report)[:1].upper() + conclusion(report)[1:] + ".",
        warnings=list(warnings(report)),
        caption=caption(report) if found else "",
        tables=tables,
        counts={key.split("/")[1].replace("_", " "): count for key, count in report.counts.items()},
        examples=report.examples,
    )
