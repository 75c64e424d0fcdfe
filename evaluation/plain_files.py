"""Two plain files of completions, compared without a run: what can be said of texts alone.

A file is JSON lines with `prompt_id` (or `prompt`, whose text then names it) and `text` (or `completion`, `response`,
`output`). Length, repetition and diversity need nothing else; what needs a judge, scores or an oracle is reported as
not measured, so that a gate never passes on it.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from evaluation.intervals import STANDARD, Resampling
from evaluation.report import EvaluationReport, Evidence, RunIdentity
from evaluation.summary import summarise
from ratify.canonical import digest, file_digest
from ratify.errors import InputError
from ratify.types import Completion, Message, Prompt

TEXT = ("text", "completion", "response", "output")
PROMPT = ("prompt_id", "prompt")
REMEDY = '; a line is such as {"prompt_id": "p1", "text": "a reply"}'


def compare_files(old: Path, new: Path, how: Resampling = STANDARD) -> EvaluationReport:
    """The report on two files of completions to the same prompts.

    Raises:
        InputError: a file that cannot be read, or two files without a common prompt (file and line).
    """
    theirs, ours = read_completions(old, "old"), read_completions(new, "new")
    known = {reply.prompt_id for reply in theirs}
    shared = {reply.prompt_id for reply in ours if reply.prompt_id in known}
    if not shared:
        raise InputError(f"{old} and {new} have no prompt in common: give both the same `prompt_id` or `prompt`")
    prompts = [Prompt(id=name, messages=(Message(role="user", content=name),)) for name in sorted(shared)]
    report = summarise(
        Evidence(
            identity=RunIdentity(
                run=f"{old.name} and {new.name}",
                models={"old": f"{old} ({file_digest(old)[:12]})", "new": f"{new} ({file_digest(new)[:12]})"},
            ),
            prompts=prompts,
            old=[reply for reply in theirs if reply.prompt_id in shared],
            new=[reply for reply in ours if reply.prompt_id in shared],
            how=how,
        )
    )
    said = f"Texts alone, on {len(shared)} prompts that both answer: which replies are better was not judged."
    return report.model_copy(update={"conclusion": (said,)})


def read_completions(path: Path, policy: str) -> list[Completion]:
    """The completions of a file; an empty text is a completion, a missing one a fault.

    Tokens are not known: words stand in for them. A `finish_reason` is taken over, and is `stop` without one.

    Raises:
        InputError: with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from None
    seen: Counter[str] = Counter()
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(path, number, line)
        prompt, text = _prompt(path, number, row), _text(path, number, row)
        found.append(
            Completion(
                id=f"{prompt}/{policy}/{seen[prompt]}", prompt_id=prompt, text=text,
                finish_reason=str(row.get("finish_reason") or "stop"), prompt_tokens=0,
                completion_tokens=len(text.split()), seed=0,
            )
        )  # fmt: skip
        seen[prompt] += 1
    if not found:
        raise InputError(f"{path} has no completions{REMEDY}")
    return found


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError.at(path, number, f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError.at(path, number, f"not an object{REMEDY}")
    return row


def _text(path: Path, number: int, row: dict[str, Any]) -> str:
    text = next((row[name] for name in TEXT if name in row), None)
    if not isinstance(text, str):
        raise InputError.at(path, number, f"no text under any of {', '.join(TEXT)}{REMEDY}")
    return text


def _prompt(path: Path, number: int, row: dict[str, Any]) -> str:
    if isinstance(row.get("prompt_id"), str | int):
        return str(row["prompt_id"])
    if row.get("prompt"):
        return digest(row["prompt"])[:16]
    raise InputError.at(path, number, f"no prompt under any of {', '.join(PROMPT)}{REMEDY}")
