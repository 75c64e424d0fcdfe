"""Results of lm-evaluation-harness as figures of the report: `results_*.json` of `lm_eval --output_path`.

A task's figure is the first of `METRICS` that its results hold, under the filter that the file names first. Its
interval is Wilson's on the number of independent items that the harness's standard error amounts to, p (1 - p) /
stderr², at most the items themselves: a task with every item right has a standard error of 0 and is not known without
doubt. Tasks that a group of the file averages are left out, since the group speaks for them. Where both sides kept
their documents (`harness_samples`) the change is paired; elsewhere it takes the sides as independent, which is wider
than need be.

Both sides must hold the same tasks, versions, numbers of items and documents; else there is no figure, and a gate that
asks says INSUFFICIENT.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.bounds import contrast
from evaluation.harness_samples import Documents, paired_documents, read_documents
from evaluation.intervals import Estimate, EvidenceError, wilson
from evaluation.ngram_figures import Compared
from evaluation.paired_shares import paired_share_difference
from ratify.errors import InputError

METRICS = ("acc", "exact_match", "pass@1", "prompt_level_strict_acc", "mc2")
"""Shares that are better when they are larger, the first found wins."""
REMEDY = "give the file that `lm_eval --output_path` wrote, or its folder"


class HarnessTask(NamedTuple):
    """One task of a results file."""

    metric: str
    """With its filter: `acc,none`."""
    value: float
    stderr: float | None
    items: int
    version: str
    documents: Documents = ()
    """Which items were answered rightly, where the run kept its samples."""


Tasks = Mapping[str, HarnessTask]


def read_harness(path: Path) -> dict[str, HarnessTask]:
    """The tasks of a results file, or of the newest one under a folder.

    Raises:
        InputError: there is none, it is no such file, a task's figure is missing or no share, or its samples are of
            another run.
    """
    file = _newest(path)
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"harness results {file} do not exist; {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"harness results {file} cannot be read as JSON ({error}); {REMEDY}") from None
    results = _part(file, content, "results")
    if not results:
        raise InputError(f'harness results {file} have no "results"; {REMEDY}')
    members = {name for group in _part(file, content, "group_subtasks") for name in _members(content, group)}
    return {name: _task(file, content, name) for name in results if name not in members}


def harness_figures(old: Tasks, new: Tasks, confidence: float = 0.95) -> dict[str, Compared]:
    """Task → share of both policies and the change.

    Raises:
        EvidenceError: the two sides do not hold the same tasks in the same version on as many items.
    """
    apart = sorted(set(old) ^ set(new))
    if apart:
        raise EvidenceError(f"harness: task {apart[0]} was run for one of the two policies only")
    for name, task in new.items():
        for what in ("metric", "version", "items"):
            if getattr(task, what) != getattr(old[name], what):
                found = f"{getattr(old[name], what)} and {getattr(task, what)}"
                raise EvidenceError(f"harness: task {name} has another {what} on each side: {found}")
    return {name: _paired(name, old[name], task, _compared(old[name], task, confidence)) for name, task in new.items()}


def _compared(old: HarnessTask, new: HarnessTask, confidence: float) -> Compared:
    before, after = (_estimate(task, confidence) for task in (old, new))
    return Compared(before, after, contrast(after, before).model_copy(update={"n": new.items}))


def _paired(name: str, old: HarnessTask, new: HarnessTask, found: Compared) -> Compared:
    """The same with a paired change, where both sides kept their documents."""
    if not old.documents or not new.documents:
        return found
    before, after = paired_documents(name, old.documents, new.documents)
    return found._replace(difference=paired_share_difference(after, before, found.new.confidence))


def _estimate(task: HarnessTask, confidence: float) -> Estimate:
    spread = task.value * (1 - task.value)
    units = float(task.items)
    if task.stderr and spread > 0:
        units = min(units, spread / task.stderr**2)
    low, high = wilson(task.value * units, max(1, round(units)), confidence) if units >= 1 else (None, None)
    return Estimate(
        value=task.value, low=low, high=high, n=task.items, clusters=max(1, round(units)), confidence=confidence
    )


def _newest(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.rglob("results_*.json"), key=lambda each: each.name)
    if not found:
        raise InputError(f"harness results: no results_*.json under {path}; {REMEDY}")
    return found[-1]


def _part(file: Path, content: Any, name: str) -> dict[str, Any]:
    """An object of the file by its name; empty where there is none."""
    found = (content.get(name) or {}) if isinstance(content, dict) else {}
    if not isinstance(found, dict):
        raise InputError(f'harness results {file}: "{name}" is no JSON object; {REMEDY}')
    return found


def _members(content: Mapping[str, Any], group: str) -> list[str]:
    found = (content.get("group_subtasks") or {}).get(group)
    return [str(name) for name in found] if isinstance(found, list) else []


def _task(file: Path, content: Mapping[str, Any], name: str) -> HarnessTask:
    row = _part(file, content["results"], name)
    keys = [key for metric in METRICS for key in row if key.partition(",")[0] == metric]
    if not keys:
        raise InputError(
            f"harness results {file}: task {name} has none of the shares {', '.join(METRICS)}; leave it out"
        )
    metric, _, chosen = keys[0].partition(",")
    value, stderr = row[keys[0]], row.get(f"{metric}_stderr,{chosen}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(
            f"harness results {file}: task {name} has {keys[0]} = {value!r}, which is no share from 0 to 1"
        )
    error = float(stderr) if isinstance(stderr, int | float) else None
    if error is not None and not 0 <= error < math.inf:
        raise InputError(f"harness results {file}: task {name} has a standard error of {stderr!r}; run it again")
    items = _items(_part(file, content, "n-samples"), content, name)
    if not items:
        raise InputError(f"harness results {file}: the number of items of task {name} is not known; {REMEDY}")
    return HarnessTask(
        keys[0], float(value), error, items,
        str(_part(file, content, "versions").get(name, "")), read_documents(file, name, keys[0], float(value), items),
    )  # fmt: skip


def _items(counted: Mapping[str, Any], content: Mapping[str, Any], name: str) -> int:
    """Items that were answered: a group's are those of its tasks; 0 where that is not known."""
    found = counted.get(name)
    if isinstance(found, dict):
        number = found.get("effective")
        return number if isinstance(number, int) and number > 0 else 0
    members = [_items(counted, content, member) for member in _members(content, name)]
    return sum(members) if all(members) else 0
