"""What a run remembers of drift: `drift/judge.jsonl`, append-only, and the frozen reference set of prompts.

A check's verdicts lie in a folder of their own while it runs, so that a killed check goes on where it was and no
verdict of an earlier one is taken for a fresh one; the check counts once its line is written.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pydantic import ValidationError

from evaluation.judge_drift import JudgeCheck
from flows.context import RunContext
from flows.stages import generate
from ratify.errors import StoreError
from ratify.files import write_text
from ratify.journal import append_line, whole_lines
from ratify.types import Prompt

FOLDER = "drift"
JUDGE = "judge.jsonl"
REFERENCE = "reference_prompts.jsonl"
REPORT = "report.json"


def judge_history(run: Path) -> list[JudgeCheck]:
    """Every check of the run's judges, oldest first.

    Raises:
        StoreError: a line is not of this version.
    """
    path = run / FOLDER / JUDGE
    found = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            found.append(JudgeCheck.model_validate_json(line))
        except ValidationError as error:
            told = f"{path}:{number}: not a drift check of this version; restore the file from a copy"
            raise StoreError(told) from error
    return found


def remember(run: Path, check: JudgeCheck) -> None:
    """Append a check, then drop its working folder."""
    append_line(run / FOLDER / JUDGE, check.model_dump_json(exclude_defaults=True))
    shutil.rmtree(working_folder(run, check.number), ignore_errors=True)


def working_folder(run: Path, number: int) -> Path:
    """Where the verdicts of check `number` lie until it is done."""
    return run / FOLDER / f"check-{number:04d}"


def reference_prompts(context: RunContext) -> list[str]:
    """The frozen reference texts; the run's training prompts, when it has none yet."""
    path = context.config.run_dir / FOLDER / REFERENCE
    if not path.exists():
        rows = (json.dumps({"text": text_of(each)}, ensure_ascii=False) for each in generate.training_prompts(context))
        write_text(path, "".join(f"{row}\n" for row in rows))
    try:
        return [str(json.loads(line)["text"]) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a reference set of this version; restore it or delete it") from error


def text_of(prompt: Prompt) -> str:
    """What a prompt says, its turns one after another."""
    return "\n".join(message.content for message in prompt.messages)
