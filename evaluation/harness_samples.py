"""What lm-evaluation-harness found document by document: `samples_TASK_DATE.jsonl`, which `lm_eval --log_samples`
writes beside the results file of the same date.

With it the change of a task is paired: two policies answer the same documents, and only those that changed sides speak
(`paired_shares`). A file that does not belong to its results (another number of documents, another mean) is a fault.
What is left out: metrics that are no yes or no for each document, whose change stays unpaired, and groups of tasks.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.intervals import EvidenceError
from ratify.errors import InputError
from ratify.prompts import numbered_lines, parse_object

ROUNDING = 1e-6
"""Between a task's figure and the mean of its documents."""
FORM = "a line is a JSON object, as `lm_eval --log_samples` writes it"


class Document(NamedTuple):
    """One document of a task, and whether it was answered rightly."""

    id: str
    content: str
    """The harness's hash of the document; empty where it gave none."""
    right: bool


Documents = tuple[Document, ...]


def read_documents(results: Path, task: str, metric: str, value: float, items: int) -> Documents:
    """The documents behind one figure of a results file; none where no file holds them or they are no yes or no.

    Args:
        results: `results_DATE.json`.
        task: its name.
        metric: with its filter, `acc,none`.
        value: the share that the results give.
        items: the number of documents that they give.

    Raises:
        InputError: a line is broken or repeated, or the file is not of these results.
    """
    path = results.parent / f"samples_{task}_{results.stem.removeprefix('results_')}.jsonl"
    if not path.exists():
        return ()
    name, _, chosen = metric.partition(",")
    found: dict[str, tuple[str, float | None]] = {}
    for number, _, line in numbered_lines(path, "harness samples"):
        row = parse_object(path, number, line, None, FORM)
        if str(row.get("filter", chosen)) != chosen:
            continue
        document = str(row.get("doc_id", number))
        if document in found:
            raise InputError.at(path, number, f"repeats document {document} of filter {chosen}")
        found[document] = (str(row.get("doc_hash", "")), _value(path, number, row, name))
    if len(found) != items:
        raise InputError(f"harness samples {path} hold {len(found)} documents, and the results beside them {items}")
    given = [right for _, right in found.values() if right is not None]
    if len(given) < items or not set(given) <= {0.0, 1.0}:
        return ()
    _belongs(path, math.fsum(given) / items, value)
    return tuple(Document(document, content, right == 1.0) for document, (content, right) in found.items())


def paired_documents(task: str, old: Documents, new: Documents) -> tuple[list[bool], list[bool]]:
    """What both policies made of the same documents, in one order.

    Raises:
        EvidenceError: they were not asked the same.
    """
    before = {document.id: document for document in old}
    if before.keys() != {document.id for document in new}:
        raise EvidenceError(f"harness: the two policies were asked other documents of task {task}")
    for document in new:
        if document.content != before[document.id].content:
            raise EvidenceError(f"harness: document {document.id} of task {task} is another one on each side")
    return [before[document.id].right for document in new], [document.right for document in new]


def _value(path: Path, number: int, row: dict[str, Any], metric: str) -> float | None:
    """A document's figure; None where it is no single number."""
    given = row.get(metric)
    if not isinstance(given, int | float):
        return None
    if not math.isfinite(given):
        raise InputError.at(path, number, f'"{metric}" is {given!r}; run the task again')
    return float(given)


def _belongs(path: Path, mean: float, value: float) -> None:
    if abs(mean - value) > ROUNDING:
        told = f"are right on {mean:.4f} of the documents, and the results beside them say {value:.4f}"
        raise InputError(f"harness samples {path} {told}; give both files of one run, or take the samples away")
