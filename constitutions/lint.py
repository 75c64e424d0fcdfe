"""Lint a constitution before anything is paid: each finding has file and line, a code, why, and a remedy.

Rules are in `lint_wording.py` (one text) and `lint_structure.py` (the whole). A finding is silenced where it stands,
by the comment `# lint: off CODE reason` (see `source.py`); a silence that covers nothing, names no code or gives no
reason is a finding itself, so that silences do not outlive their cause. Nothing is ever repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from constitutions.lint_structure import Found, Surroundings, structure_findings
from constitutions.lint_wording import TEXT_RULES, doubled_word
from constitutions.source import Silence, Source

CODES: dict[str, str] = {
    "duplicate": "two principles say the same",
    "near-duplicate": "two principles say nearly the same",
    "compound": "one text asks for more than one thing",
    "double-negation": "two negations stand together",
    "vague-word": "a word that every judge reads differently",
    "absolute-word": "a word that leaves no room",
    "unreachable": "a scope that covers no prompt",
    "boundless-scope": "a scope that limits nothing",
    "zero-weight": "a principle that is paid for and decides nothing",
    "hard-unproven": "a hard principle without a check or a test",
    "label-letter": "the name of an answer inside a text",
    "length-wording": "wording that invites length",
    "judge-family": "a judge of the same family as the policy",
    "low-version": "a version below the computed one",
    "request": "an order to an author instead of a statement about a reply",
    "question": "a question instead of a statement about a reply",
    "doubled-word": "the same word twice in a row",
    "long-text": "more words than one rule needs",
    "idle-silence": "a `lint: off` comment that is wrong or no longer needed",
}
"""Every code, and what it stands for."""


class Finding(NamedTuple):
    """One thing that is wrong, where it is, why, and what to do."""

    path: Path
    line: int
    code: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.code}: {self.why}; {self.remedy}"


def lint(source: Source, around: Surroundings | None = None) -> list[Finding]:
    """Every finding that is not silenced, in the order of lines."""
    found = sorted(_all(source, around or Surroundings()), key=lambda each: (each.line, each.code))
    silences = list(source.silences())
    kept = [each for each in found if not any(_covers(silence, each) for silence in silences)]
    idle = [each for silence in silences for each in _idle(source, silence, found)]
    return sorted([*kept, *idle], key=lambda each: (each.line, each.code))


def _all(source: Source, around: Surroundings) -> Iterator[Finding]:
    for found in [*structure_findings(source.constitution, around), *_wording(source)]:
        line = source.line(*found.location)
        yield Finding(source.path, line, found.code, found.why, found.remedy)


def _wording(source: Source) -> Iterator[Found]:
    for index, principle in enumerate(source.constitution.principles):
        if principle.status == "retired":
            continue
        for code, rule in TEXT_RULES.items():
            for remark in rule(principle.text):
                yield Found(code, ("principles", index, "text"), *remark)
        for field in ("critique_request", "revision_request"):
            for remark in doubled_word(getattr(principle, field)):
                yield Found("doubled-word", ("principles", index, field), *remark)


def _covers(silence: Silence, finding: Finding) -> bool:
    return silence.code == finding.code and silence.first <= finding.line <= silence.last


def _idle(source: Source, silence: Silence, found: list[Finding]) -> Iterator[Finding]:
    if silence.code not in CODES:
        why, remedy = f"{silence.code!r} is no code", f"write one of {', '.join(CODES)}"
    elif not silence.reason:
        why, remedy = "the silence gives no reason", f"write `# lint: off {silence.code} why it is right here`"
    elif not any(_covers(silence, each) for each in found):
        why, remedy = f"nothing here is reported as {silence.code}", "remove the comment"
    else:
        return
    yield Finding(source.path, silence.line, "idle-silence", why, remedy)
