"""The result of critique-and-revision as one offline page, with replies beside their critiques and revisions.

A function of the report alone. Made like the evaluation report: no script, no network, everything escaped, a content
security policy besides.
"""

from __future__ import annotations

from pathlib import Path

from evaluation.pages import render_page
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


def write_revision_page(path: Path, report: RevisionReport) -> None:
    """Write the page."""
    write_text(path, render_revisions(report))


def render_revisions(report: RevisionReport) -> str:
    """The page's HTML."""
    found = has_result(report)
    tables = [
        (STEP_HEAD, step_rows(report)),
        (PRINCIPLE_HEAD, principle_rows(report)),
        (TRUTH_HEAD, truth_rows(report)),
    ]
    return render_page(
        "revisions.html.j2",
        title=report.title,
        conclusion=conclusion(report)[:1].upper() + conclusion(report)[1:] + ".",
        warnings=list(warnings(report)),
        caption=caption(report) if found else "",
        tables=tables,
        counts={key.split("/")[1].replace("_", " "): count for key, count in report.counts.items()},
        examples=report.examples,
    )
