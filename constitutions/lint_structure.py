"""What can be said against a constitution as a whole: duplicates, scopes that cover nothing or everything, weights,
hard principles that nothing proves, a judge that marks its own family, a version that is too low.

Near-duplicates are compared by words in any order. Whether a scope covers a prompt is known only for prompts that
are given; of the patterns alone, only the plainly impossible is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from rapidfuzz import fuzz, process

from constitutions.diff import diff_constitutions
from constitutions.patterns import found
from constitutions.schema import Constitution, Principle
from constitutions.source import Location
from ratify.model_family import model_family
from ratify.types import Prompt

NEAR = 88
"""Words in common, in percent, from which on two texts count as nearly the same."""


class Surroundings(NamedTuple):
    """What a lint may know besides the file."""

    against: Constitution | None = None
    """An earlier version."""
    prompts: Sequence[Prompt] = ()
    judge_model: str = ""
    policy_model: str = ""


class Found(NamedTuple):
    """One finding by its place in the constitution."""

    code: str
    location: Location
    why: str
    remedy: str


def structure_findings(constitution: Constitution, around: Surroundings) -> Iterator[Found]:
    """Everything that is not about one text's wording."""
    yield from _duplicates(constitution)
    for index, principle in enumerate(constitution.principles):
        if principle.status == "active":
            yield from _of_one(principle, ("principles", index), around)
    yield from _family(around)
    if around.against is not None:
        fault = diff_constitutions(around.against, constitution).version_fault
        if fault:
            why, _, remedy = fault.partition("; ")
            yield Found("low-version", ("version",), why, remedy)


def _of_one(principle: Principle, place: Location, around: Surroundings) -> Iterator[Found]:
    if principle.weight == 0 and principle.severity != "info":
        yield Found(
            "zero-weight", (*place, "weight"), "a weight of 0 is judged and paid for, and decides nothing",
            "write `severity: info` to measure only, or `status: retired`",
        )  # fmt: skip
    if principle.severity == "hard" and not principle.checks and not principle.tests:
        yield Found(
            "hard-unproven", (*place, "severity"), "a hard principle vetoes, and neither a check nor a test proves it",
            "add a test, or a check that holds for good replies",
        )  # fmt: skip
    yield from _scope(principle, (*place, "applies_to"), around.prompts)


def _scope(principle: Principle, place: Location, prompts: Sequence[Prompt]) -> Iterator[Found]:
    scope = principle.applies_to
    for pattern in scope.any_regex:
        if _impossible(pattern):
            yield Found(
                "unreachable", place, f"the pattern {pattern!r} can match no prompt", "mend it; put text before `$`"
            )
        elif found(pattern, ""):
            yield Found(
                "boundless-scope", place, f"the pattern {pattern!r} matches even an empty prompt, so it limits nothing",
                "remove the scope, or make part of the pattern obligatory",
            )  # fmt: skip
    if prompts and not any(scope.covers(prompt) for prompt in prompts):
        yield Found(
            "unreachable", place, f"the scope covers none of the {len(prompts)} prompts",
            "correct the tags and patterns, or add prompts that it is meant for",
        )  # fmt: skip


def _impossible(pattern: str) -> bool:
    """Whether a pattern plainly asks for text after the end or before the beginning."""
    parsed: Any = re._parser.parse(pattern)  # type: ignore[attr-defined]
    if parsed.state.flags & re.MULTILINE:
        return False
    seen_text = ended = False
    for operation, argument in parsed:
        name, at = str(operation), str(argument)
        consumes = name in ("LITERAL", "NOT_LITERAL", "IN", "ANY")
        if (ended and consumes) or (name == "AT" and at in ("AT_BEGINNING", "AT_BEGINNING_STRING") and seen_text):
            return True
        seen_text |= consumes
        ended |= name == "AT" and at in ("AT_END", "AT_END_STRING")
    return False


def _duplicates(constitution: Constitution) -> Iterator[Found]:
    """The same text twice, or nearly; each principle is reported once, with the first that it repeats."""
    kept = [index for index, each in enumerate(constitution.principles) if each.status != "retired"]
    principles = [constitution.principles[index] for index in kept]
    plain = [" ".join(sorted(re.findall(r"\w+", each.text.casefold()))) for each in principles]
    first: dict[str, int] = {}
    distinct = [index for index, text in enumerate(plain) if first.setdefault(text, index) == index]
    near = dict(_near_pairs([plain[index] for index in distinct]))
    back = {distinct[later]: distinct[earlier] for later, earlier in near.items()}
    for index, principle in enumerate(principles):
        same, close = first[plain[index]], back.get(index)
        if same != index:
            why = f"principle {principle.id!r} says the same as {principles[same].id!r}"
            yield Found(
                "duplicate",
                ("principles", kept[index], "text"),
                why,
                "remove one of them; weight makes a rule count twice",
            )
        elif close is not None:
            why = f"principle {principle.id!r} says nearly the same as {principles[close].id!r}"
            yield Found(
                "near-duplicate", ("principles", kept[index], "text"), why, "merge them, or say what tells them apart"
            )


def _near_pairs(texts: list[str]) -> Iterator[tuple[int, int]]:
    """(later, first earlier text that is nearly the same), in blocks so that memory stays small."""
    block = 512
    for start in range(0, len(texts), block):
        rows = texts[start : start + block]
        earlier = texts[: start + len(rows)]
        scores = process.cdist(rows, earlier, scorer=fuzz.ratio, score_cutoff=NEAR, dtype=np.uint8)
        for row in range(len(rows)):
            hits = np.flatnonzero(scores[row, : start + row])
            if hits.size:
                yield start + row, int(hits[0])


def _family(around: Surroundings) -> Iterator[Found]:
    judge, policy = model_family(around.judge_model), model_family(around.policy_model)
    if judge and judge == policy:
        yield Found(
            "judge-family", (), f"judge and policy are of one family ({judge}), and models favour their own kind",
            "judge with a model of another family, or check the labels against people's",
        )  # fmt: skip
