"""Import promptfoo's `llm-rubric` assertions: each rubric becomes a principle, its weight the principle's.

Assertions are looked for in `defaultTest`, in `tests` and within `assert-set`. The same rubric used by several tests
is one principle. Thresholds, other assertion types, files and template variables are reported and not imported: a
principle says what is wanted of any reply, not what one test case expects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from constitutions.drafts import Draft
from ratify.errors import ConstitutionError


def read_promptfoo(draft: Draft) -> dict[str, Any]:
    """Parse the configuration.

    Raises:
        ConstitutionError: it is not YAML, or not promptfoo's.
    """
    try:
        tree: object = YAML(typ="safe", pure=True).load(draft.text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConstitutionError.at(
            draft.path, mark.line + 1 if mark else 1, f"not valid YAML: {error.problem}"
        ) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConstitutionError.at(draft.path, 1, f"not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict) or not {"tests", "defaultTest", "assert"} & set(tree):
        raise ConstitutionError.at(
            draft.path, 1, "not a promptfoo configuration: it has neither `tests` nor `defaultTest`"
        )
    return tree


def import_promptfoo(draft: Draft) -> None:
    """Add every distinct rubric."""
    used: dict[str, int] = {}
    weights: dict[str, float] = {}
    for place, assertion in _assertions(read_promptfoo(draft)):
        text = _rubric(draft, place, assertion)
        if text is None:
            continue
        used[text] = used.get(text, 0) + 1
        weight = _weight(draft, place, text, assertion.get("weight", 1))
        if weights.setdefault(text, weight) != weight:
            draft.note(draft.line_of(text), f"{place} weighs a rubric {weight:g} that weighed {weights[text]:g} before")
    for index, (text, count) in enumerate(used.items(), start=1):
        line = draft.line_of(text)
        if count > 1:
            draft.note(line, f"a rubric is used {count} times; it becomes one principle")
        if re.search(r"\{\{.*?\}\}", text):
            draft.note(line, "a rubric has template variables ({{…}}), which a judge would read as they stand")
        extra = {} if weights[text] == 1 else {"weight": weights[text]}
        draft.add(f"rubric-{index:02d}", line, text=text, meta={"source": f"{draft.path.name}:{line}"}, **extra)


def _assertions(tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every assertion with its place, `assert-set`s unfolded."""
    default = tree.get("defaultTest")
    holders: list[tuple[str, Any]] = [("", tree), ("defaultTest.", default)]
    tests = tree.get("tests")
    holders += [(f"tests[{n}].", test) for n, test in enumerate(tests)] if isinstance(tests, list) else []
    waiting = [(prefix, holder) for prefix, holder in holders if isinstance(holder, dict)]
    while waiting:
        prefix, holder = waiting.pop(0)
        listed = holder.get("assert")
        for index, item in enumerate(listed if isinstance(listed, list) else []):
            place = f"{prefix}assert[{index}]"
            if isinstance(item, dict) and item.get("type") == "assert-set":
                waiting.insert(0, (f"{place}.", item))
            elif isinstance(item, dict):
                yield place, item


def _rubric(draft: Draft, place: str, assertion: dict[str, Any]) -> str | None:
    """The rubric of an assertion; reported when there is none that can be used."""
    value, kind = assertion.get("value"), str(assertion.get("type", assertion.get("$ref", "none")))
    line = draft.line_of(value) if isinstance(value, str) else draft.line_of(f"type: {kind}")
    if kind != "llm-rubric":
        draft.note(line, f"{place} is not imported: only llm-rubric becomes a principle, not {kind}")
    elif not isinstance(value, str) or not value.strip():
        draft.note(line, f"{place} is not imported: its rubric is no text")
    elif value.startswith("file://"):
        draft.note(line, f"{place} is not imported: its rubric is in another file ({value})")
    else:
        if "threshold" in assertion:
            draft.note(line, f"{place}.threshold is not imported: a verdict is a probability, not a pass")
        return value.strip()
    return None


def _weight(draft: Draft, place: str, text: str, weight: Any) -> float:
    if isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < float("inf"):
        return float(weight)
    draft.note(draft.line_of(text), f"{place}.weight is {weight!r}, which is no number from 0 on; 1 is written")
    return 1.0
