"""Verdicts in text: which answer a judge's own words give, or why they give none. Pure functions.

Nothing is searched for in prose. A judge quotes the replies, and a reply may say "choose A" or forge a verdict, so text
counts in two forms only:

- a line of its own, `Verdict 123456: A`, that bears the question's marker (`judges/rendering.py`), which the author of
  a reply cannot know. The last such line wins, and is checked afterwards: one that names no offered answer is a parse
  error, never a reason to fall back on an earlier line.
- an answer that is nothing but the answer: `A`, `**A**`, `Answer: (A).`, without quotation marks; or, for JSON, a text
  that is nothing but one object with exactly the fields of the schema, each once.

Everything else is a failure: `refused` where the text declines, else `parse_error`. Nothing is repaired or guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ratify.canonical import JsonValue
from ratify.types import Failure

_DECORATION = " \t\r\n*_`()[].!"
_QUOTES = "\"'“”‘’«»>"
_BARE_ANSWER = re.compile(r"(?:(?:final )?(?:answer|verdict)\s*:|reply)?\s*(.{1,12})", re.IGNORECASE | re.DOTALL)
_DECLINES = re.compile(
    r"\W*(?:i['’]?m (?:very |really |so )?sorry|i am (?:very |really |so )?sorry|sorry|i apologi[sz]e|my apologies|"
    r"i (?:can['’]?t|can ?not|won['’]?t|will not|must decline|decline|refuse)|i['’]?m (?:unable|not able)|"
    r"i am (?:unable|not able)|as an ai)\b",
    re.IGNORECASE,
)
_THOUGHT_END = "</think>"
LONGEST_REFUSAL_CHARS = 400


class TextVerdict(NamedTuple):
    """What a text says: the number of the answer among those offered, or a failure."""

    answer: int | None
    failure: Failure | None


class TextRanking(NamedTuple):
    """What a text says: the numbers of the answers among those offered, best first, or a failure."""

    order: tuple[int, ...] | None
    failure: Failure | None


def read_text(text: str, answers: Sequence[str], marker: str, finish_reason: str) -> TextVerdict:
    """Read free text; `answers` are the offered ones, such as A and B."""
    stopped = _stopped(finish_reason)
    if stopped:
        return TextVerdict(None, stopped)
    found = re.findall(rf"^[ \t#*_`-]*verdict {marker}[ \t*_`]*:(.*)$", text, re.IGNORECASE | re.MULTILINE)
    if found:
        return _offered(found[-1].strip(_QUOTES + _DECORATION), answers)
    said = without_thoughts(text)
    bare = _BARE_ANSWER.fullmatch(said.strip(_DECORATION))
    # A second end of a thought is somebody's quotation, and then it is open what is thought and what is said.
    if bare and text.count(_THOUGHT_END) < 2 and (verdict := _offered(bare.group(1), answers)).failure is None:
        return verdict
    return TextVerdict(None, Failure.REFUSED if declines(said) else Failure.PARSE_ERROR)


def read_json(text: str, answers: Sequence[str], finish_reason: str) -> TextVerdict:
    """Read an answer by `verdict_schema`."""
    verdict, failure = _field(text, "verdict", finish_reason)
    if failure or verdict not in answers:
        return TextVerdict(None, failure or Failure.PARSE_ERROR)
    return TextVerdict(answers.index(verdict), None)


def read_ranking(text: str, answers: Sequence[str], finish_reason: str) -> TextRanking:
    """Read an answer by `ranking_schema`; every answer has to be there, once."""
    ranking, failure = _field(text, "ranking", finish_reason)
    whole = isinstance(ranking, list) and all(isinstance(each, str) for each in ranking)
    if failure or not whole or sorted(ranking) != sorted(answers):
        return TextRanking(None, failure or Failure.PARSE_ERROR)
    return TextRanking(tuple(answers.index(each) for each in ranking), None)


def _field(text: str, name: str, finish_reason: str) -> tuple[Any, Failure | None]:
    """The one field beside the reasoning of a text that is nothing but such an object."""
    stopped = _stopped(finish_reason)
    if stopped:
        return None, stopped
    found = next((value for value in map(_whole_json, _after_thoughts(text)) if value is not None), None)
    if found is None:
        return None, Failure.REFUSED if declines(without_thoughts(text)) else Failure.PARSE_ERROR
    fields = found if isinstance(found, dict) and set(found) == {"reasoning", name} else {}
    if not isinstance(fields.get("reasoning"), str):
        return None, Failure.PARSE_ERROR
    return fields[name], None


def verdict_schema(answers: Sequence[str]) -> dict[str, JsonValue]:
    """The JSON schema of an answer: the reasoning comes first, so that the verdict follows from it."""
    return _schema("verdict", {"type": "string", "enum": list(answers)})


def ranking_schema(answers: Sequence[str]) -> dict[str, JsonValue]:
    """The JSON schema of a ranking, best first; that each answer occurs once is beyond what servers enforce."""
    return _schema("ranking", {"type": "array", "items": {"type": "string", "enum": list(answers)}})


def _schema(name: str, kind: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, name: kind},
        "required": ["reasoning", name],
        "additionalProperties": False,
    }


def declines(text: str) -> bool:
    """Whether a text opens as a refusal does and is as short as one; "I cannot fault reply A" may begin an argument."""
    return len(text) <= LONGEST_REFUSAL_CHARS and bool(_DECLINES.match(text.lstrip()))


def without_thoughts(text: str) -> str:
    """What follows a reasoning model's `<think>` block; all of it where there is none."""
    return text.rpartition(_THOUGHT_END)[2] if text.lstrip().startswith("<think>") else text


def _after_thoughts(text: str) -> list[str]:
    """Where the answer may begin: a thought may quote the end of a thought, and so may the answer."""
    if not text.lstrip().startswith("<think>"):
        return [text]
    parts = text.split(_THOUGHT_END)
    return [_THOUGHT_END.join(parts[number:]) for number in range(1, len(parts))]


def _whole_json(text: str) -> object:
    """The JSON value that a text is, in a fence or not; None for anything else."""
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*)\n\s*```", text.strip(), re.DOTALL)
    try:
        value: object = json.loads(fenced.group(1) if fenced else text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return value


def _stopped(finish_reason: str) -> Failure | None:
    """A text that did not end by itself holds no verdict, whatever stands in it."""
    return {"length": Failure.TRUNCATED, "content_filter": Failure.REFUSED}.get(finish_reason)


def _offered(said: str, answers: Sequence[str]) -> TextVerdict:
    spoken = said.strip(_DECORATION).lower()
    known = [answer.lower() for answer in answers]
    return TextVerdict(known.index(spoken), None) if spoken in known else TextVerdict(None, Failure.PARSE_ERROR)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose fields occur once each; a repeated one would let a reader choose."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field occurs twice")
    return found
