"""What is said of a draft while it is typed: the fault that keeps it from loading, or lint, difference and version.

Nothing here needs a run or asks a judge. Everything is plain JSON for the page.
"""

from __future__ import annotations

import bisect
import difflib
import re
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from constitutions.diff import Change, diff_constitutions
from constitutions.lint import Finding, lint
from constitutions.lint_structure import Surroundings
from constitutions.schema import Constitution, Principle
from constitutions.source import Source
from constitutions.splices import Places
from constitutions.versions import raised
from flows.editor.drafts import FORM_FIELDS, SETTINGS, Draft, parsed, setting, sound_or_none
from ratify.errors import ConstitutionError


def analyse(draft: Draft, path: Path, around: Surroundings) -> dict[str, Any]:
    """Everything the page shows about a draft, but what needs a run."""
    baseline = sound_or_none(draft.baseline, path)
    text = draft.text(path)
    shown = {
        "text": text,
        "lines": changed_lines(draft.baseline, text),
        "fault": None,
        "compared": baseline is not None,
    }
    try:
        source = Source(path, text)
    except ConstitutionError as error:
        return {**shown, "fault": fault_of(error, text, path)}
    findings = lint(source, around._replace(against=baseline))
    constitution = source.constitution
    return {
        **shown,
        **form_of(constitution),
        "findings": [_finding(each, source) for each in findings],
        **difference(baseline or constitution, constitution),
    }


def form_of(constitution: Constitution) -> dict[str, Any]:
    """What the form is filled with."""
    return {
        "id": constitution.id,
        "version": constitution.version,
        "tiers": list(constitution.tiers),
        "settings": {name: setting(constitution, name) for name in SETTINGS},
        "principles": [_row(each, position) for position, each in enumerate(constitution.principles)],
    }


def difference(old: Constitution, new: Constitution) -> dict[str, Any]:
    """The edit by meaning, and the version it needs."""
    diff = diff_constitutions(old, new)
    return {
        "changes": [_change(each) for each in diff.changes],
        "bump": diff.bump.name.lower(),
        "least": raised(old.version, diff.bump),
        "was_version": old.version,
        "version_fault": diff.version_fault,
        "rejudged": list(diff.rejudged),
        "rescoped": list(diff.rescoped),
    }


def fault_of(error: ConstitutionError, text: str, path: Path) -> dict[str, Any]:
    """A fault as its line, its sentence, and the position of the principle it is in."""
    match = re.match(rf"{re.escape(str(path))}(?::(\d+))?: (.*)", str(error), re.DOTALL)
    line = int(match[1]) if match and match[1] else None
    return {"line": line, "sentence": match[2] if match else str(error), "principle": _principle_at(text, line)}


def changed_lines(old: str, new: str) -> list[str]:
    """A unified diff without its head, two lines of context."""
    return list(difflib.unified_diff(old.splitlines(), new.splitlines(), n=2, lineterm=""))[2:]


def load_or_fault(text: str, path: Path) -> str | None:
    """The sentence that says why a text does not load; None if it does."""
    try:
        parsed(text, path)
    except ConstitutionError as error:
        return str(error)
    return None


def _row(principle: Principle, position: int) -> dict[str, Any]:
    fields = {field: getattr(principle, field) for field in FORM_FIELDS}
    scope = [*principle.applies_to.tags, *principle.applies_to.any_regex]
    besides = {"checks": len(principle.checks), "tests": len(principle.tests), "examples": len(principle.examples)}
    return {"origin": position, "id": principle.id, **fields, "was": principle.was, "scope": scope, **besides}


def _finding(finding: Finding, source: Source) -> dict[str, Any]:
    blocks = source.principle_lines()
    place = next((index for index, (first, last) in enumerate(blocks) if first <= finding.line <= last), None)
    return {
        "line": finding.line,
        "code": finding.code,
        "why": finding.why,
        "remedy": finding.remedy,
        "principle": place,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "principle": change.principle,
        "field": change.field,
        "old": change.old,
        "new": change.new,
        "class": str(change.field_class),
        "bump": change.bump.name.lower(),
        "why": change.why,
        "cost": change.cost,
    }


def _principle_at(text: str, line: int | None) -> int | None:
    try:
        starts = Places(text).lines() if line else []
    except (YAMLError, ValueError):
        return None
    position = bisect.bisect_right(starts, line or 0) - 1
    return position if position >= 0 else None
