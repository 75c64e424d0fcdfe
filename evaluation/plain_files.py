"""Two plain files of completions, compared without a run: what can be said of texts alone, and of files beside them.

A file is JSON lines with `prompt_id` (or `prompt`, whose text then names it) and `text` (or `completion`, `response`,
`output`); `tags` and `finish_reason` are taken over. Length, repetition, diversity and form need nothing else. Beside
the two files there may be a capability suite (a completion whose prompt is an item's is the answer to it), an anchor
text for rare words, and lm-evaluation-harness's results. What needs a judge, scores or an oracle is reported as not
measured, so that the gate never passes on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.anchor import read_anchor
from evaluation.form import SAFE_TWIN
from evaluation.gate import decide
from evaluation.gate_record import GateVerdict
from evaluation.grading import is_right
from evaluation.harness import read_harness
from evaluation.intervals import STANDARD, Resampling
from evaluation.report import AnsweredItem, EvaluationReport, Evidence, RunIdentity
from evaluation.suite_items import CapabilityItem, read_capability
from evaluation.summary import summarise
from ratify.canonical import digest, file_digest
from ratify.errors import InputError
from ratify.gate_section import CAPABILITY, HARNESS, GateSection
from ratify.prompts import numbered_lines, parse_object, parse_tags
from ratify.types import Completion, Message, Prompt

TEXT = ("text", "completion", "response", "output")
PROMPT = ("prompt_id", "prompt")
REMEDY = '; a line is such as {"prompt_id": "p1", "text": "a reply"}'


class Beside(NamedTuple):
    """What may stand beside two files of completions."""

    capability: Path | None = None
    """Items that are answered in writing, among whose answers the completions are looked up."""
    anchor: Path | None = None
    """Frozen text by people, for the figures of rare words."""
    harness: tuple[Path, Path] | None = None
    """lm-evaluation-harness's results of the old and of the new policy."""


NOTHING = Beside()


class Line(NamedTuple):
    """A line of a file of completions."""

    completion: Completion
    prompt: str
    """Its text, where the line has one; else its id."""
    tags: tuple[str, ...]


def compare_files(old: Path, new: Path, how: Resampling = STANDARD, beside: Beside = NOTHING) -> EvaluationReport:
    """The report on two files of completions to the same prompts.

    Raises:
        InputError: a file that cannot be read, or two files without a common prompt (file and line).
    """
    items, harness = _written(beside.capability), beside.harness
    theirs, ours = list(_lines(old, "old")), list(_lines(new, "new"))
    known = {line.completion.prompt_id for line in theirs}
    shared = {line.completion.prompt_id for line in ours} & known
    if not shared:
        raise InputError(f"{old} and {new} have no prompt in common: give both the same `prompt_id` or `prompt`")
    report = summarise(
        Evidence(
            identity=RunIdentity(
                run=f"{old.name} and {new.name}",
                models={"old": f"{old} ({file_digest(old)[:12]})", "new": f"{new} ({file_digest(new)[:12]})"},
            ),
            prompts=_prompts([*theirs, *ours], shared),
            old=[line.completion for line in theirs if line.completion.prompt_id in shared],
            new=[line.completion for line in ours if line.completion.prompt_id in shared],
            safe_twins=(SAFE_TWIN,),
            capability=_answered(items, theirs, ours),
            anchor=read_anchor(beside.anchor) if beside.anchor else (),
            harness=(read_harness(harness[0]), read_harness(harness[1])) if harness else None,
            how=how,
        )
    )
    said = f"Texts alone, on {len(shared)} prompts that both answer: which replies are better was not judged."
    return report.model_copy(update={"conclusion": (said,)})


def gate_files(report: EvaluationReport, beside: Beside = NOTHING) -> GateVerdict:
    """What the gate makes of it with its default limits: never PROMOTE, as nobody judged; losses are named."""
    given = {CAPABILITY: beside.capability, HARNESS: beside.harness}
    return decide(report, GateSection().holding(*(name for name, path in given.items() if path)))


def read_completions(path: Path, policy: str) -> list[Completion]:
    """The completions of a file; an empty text is a completion, a missing one a fault.

    Tokens are not known: words stand in for them. A `finish_reason` is taken over, and is `stop` without one.

    Raises:
        InputError: with file and line.
    """
    return [line.completion for line in _lines(path, policy)]


def _lines(path: Path, policy: str) -> Iterator[Line]:
    seen: Counter[str] = Counter()
    for number, _, text in numbered_lines(path, "file of completions"):
        row = parse_object(path, number, text, None, f"not an object{REMEDY}")
        prompt, reply, asked = _prompt(path, number, row), _text(path, number, row), row.get("prompt")
        completion = Completion(
            id=f"{prompt}/{policy}/{seen[prompt]}", prompt_id=prompt, text=reply,
            finish_reason=str(row.get("finish_reason") or "stop"), prompt_tokens=0,
            completion_tokens=len(reply.split()), seed=0,
        )  # fmt: skip
        seen[prompt] += 1
        tags = parse_tags(path, number, row.get("tags") or ())
        yield Line(completion, asked if isinstance(asked, str) else prompt, tags)
    if not seen:
        raise InputError(f"{path} has no completions{REMEDY}")


def _prompts(lines: Sequence[Line], shared: set[str]) -> list[Prompt]:
    """The prompts that both files answer, with every tag that a line gives them."""
    texts: dict[str, str] = {}
    tags: dict[str, dict[str, None]] = {}
    for line in lines:
        name = line.completion.prompt_id
        texts.setdefault(name, line.prompt)
        tags.setdefault(name, {}).update(dict.fromkeys(line.tags))
    return [
        Prompt(id=name, messages=(Message(role="user", content=texts[name]),), tags=tuple(tags[name]))
        for name in sorted(shared)
    ]


def _written(path: Path | None) -> tuple[CapabilityItem, ...]:
    """The items of a suite, all answered in writing.

    Raises:
        InputError: some are answered by choosing, which takes log-probabilities.
    """
    items = read_capability(path) if path else ()
    chosen = sum(bool(item.choices) for item in items)
    if chosen:
        raise InputError(
            f"{chosen} of {len(items)} items of {path} are answered by choosing, which takes the models themselves; "
            'give a file of those with "answers" alone, or a run with suites.capability'
        )
    return items


def _answered(items: Sequence[CapabilityItem], old: Sequence[Line], new: Sequence[Line]) -> list[AnsweredItem]:
    """Which policy answered each item rightly, by its first completion to it; None where it has none."""
    sides = {"old": _first_texts(old), "new": _first_texts(new)}
    return [
        AnsweredItem(id=item.id, tags=item.tags, **{side: _right(item, texts) for side, texts in sides.items()})
        for item in items
    ]


def _first_texts(lines: Sequence[Line]) -> dict[str, str]:
    return {line.completion.prompt_id: line.completion.text for line in reversed(lines)}


def _right(item: CapabilityItem, texts: dict[str, str]) -> bool | None:
    messages = [message.model_dump() for message in item.messages]
    names = (item.id, _named(item.messages[-1].content) if len(messages) == 1 else "", _named(messages))
    reply = next((texts[name] for name in names if name in texts), None)
    return None if reply is None else is_right(item, reply)


def _text(path: Path, number: int, row: dict[str, Any]) -> str:
    text = next((row[name] for name in TEXT if name in row), None)
    if not isinstance(text, str):
        raise InputError.at(path, number, f"no text under any of {', '.join(TEXT)}{REMEDY}")
    return text


def _prompt(path: Path, number: int, row: dict[str, Any]) -> str:
    if isinstance(row.get("prompt_id"), str | int):
        return str(row["prompt_id"])
    if row.get("prompt"):
        return _named(row["prompt"])
    raise InputError.at(path, number, f"no prompt under any of {', '.join(PROMPT)}{REMEDY}")


def _named(prompt: Any) -> str:
    """The id of a prompt that has none."""
    return digest(prompt)[:16]
