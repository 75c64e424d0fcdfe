"""Import Markdown in the manner of OpenAI's Model Spec: sections become principles, authority becomes the tier.

A section is a heading `## Title {#id authority=root}`; its prose is the text, word for word and at full length (lint
says when that is too long for a judge). An example is a `~~~xml` block with a conversation and a `<comparison>` of
replies marked GOOD or BAD; each GOOD with each BAD becomes a test, because tests are never shown to the judge.
Commentary, footnotes and sections without an authority are reported, not imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from constitutions.drafts import Draft, slug

_HEADING = re.compile(r"^(#{1,6})\s+(?P<title>.*?)\s*(?:\{(?P<attributes>[^}]*)\})?\s*#*\s*$")
_FENCE = re.compile(r"^\s*(~~~+|```+)")
_EXAMPLE = re.compile(r"^\s*\*\*Example\*\*:?")
_TURN = re.compile(
    r"<(?P<role>system|developer|user|assistant|tool)\b[^>]*>\s*"
    r"(?:<!--\s*(?P<mark>GOOD|BAD)\b\s*:?\s*(?P<why>.*?)\s*-->)?(?P<text>.*?)</(?P=role)>",
    re.DOTALL,
)
AUTHORITIES = ("root", "platform", "system", "developer", "user", "guideline")
"""Highest first."""


class _Section(NamedTuple):
    line: int
    title: str
    attributes: str
    body: list[tuple[int, str]]
    """Lines with their numbers."""


def is_model_spec(text: str) -> bool:
    """Whether some heading carries an authority."""
    return re.search(r"^#{1,6} .*\{[^}]*authority=", text, re.MULTILINE) is not None


def import_model_spec(draft: Draft) -> None:
    """Add every section that has an authority."""
    seen: list[str] = []
    for section in _sections(draft.text):
        authority = re.search(r"authority\s*=\s*[\"']?([\w-]+)", section.attributes)
        if authority is None:
            draft.note(section.line, f"section {section.title!r} is not imported: it has no authority")
            continue
        prose, blocks = _split(draft, section)
        if not prose:
            draft.note(section.line, f"section {section.title!r} is not imported: it has no prose of its own")
            continue
        tier = slug(authority[1])
        seen.append(tier)
        name = re.search(r"#([\w.-]+)", section.attributes)
        tests = [test for line, block in blocks for test in _tests(draft, line, block)]
        draft.add(
            name[1] if name else slug(section.title), section.line, tier=tier, text=prose, tests=tests,
            meta={"title": section.title, "source": f"{draft.path.name}:{section.line}"},
        )  # fmt: skip
    known = [tier for tier in AUTHORITIES if tier in seen]
    draft.tiers = known + [tier for tier in dict.fromkeys(seen) if tier not in known]
    for tier in draft.tiers[len(known) :]:
        draft.note(1, f"the authority {tier!r} is unknown; its tier is ranked last")


def _sections(text: str) -> Iterator[_Section]:
    """Headings with what follows them; a `#` within a fence is no heading."""
    current: _Section | None = None
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        fence = _fence_after(fence, line)
        heading = None if fence else _HEADING.match(line)
        if heading:
            if current:
                yield current
            current = _Section(number, heading["title"], heading["attributes"] or "", [])
        elif current:
            current.body.append((number, line))
    if current:
        yield current


def _fence_after(fence: str, line: str) -> str:
    """The fence that is open after a line."""
    match = _FENCE.match(line)
    if not match:
        return fence
    if not fence:
        return match[1]
    closes = match[1].startswith(fence) and line.strip() == match[1]
    return "" if closes else fence


def _split(draft: Draft, section: _Section) -> tuple[str, list[tuple[int, str]]]:
    """A section's prose, and its example blocks with their lines."""
    prose: list[str] = []
    blocks: list[tuple[int, str]] = []
    block: list[str] = []
    fence, example, aside = "", False, False
    for number, line in section.body:
        before, fence = fence, _fence_after(fence, line)
        if fence and not before:
            block = []
            continue
        if before:
            if fence:
                block.append(line)
            else:
                blocks.append((number - len(block), "\n".join(block)))
                if not example:
                    draft.note(number - len(block), "a block without an **Example** line is read as an example")
                example = False
            continue
        if line.startswith("!!!") or re.match(r"\[\^[^\]]+\]:", line):
            aside = True
            draft.note(number, f"an aside is not imported: {line.strip()[:60]}")
        elif aside and (not line.strip() or line.startswith("    ")):
            pass
        elif _EXAMPLE.match(line):
            example, aside = True, False
        else:
            aside = False
            prose.append(line.rstrip())
    if fence:
        draft.note(section.body[-1][0], "a block is never closed; the rest of its section is not imported")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(prose)).strip(), blocks


def _tests(draft: Draft, line: int, block: str) -> Iterator[dict[str, Any]]:
    """Each GOOD reply with each BAD one."""
    context, _, comparison = block.partition("<comparison>")
    turns = [(turn["role"], turn["text"].strip()) for turn in _TURN.finditer(context)]
    marked = [
        (turn["mark"], turn["text"].strip()) for turn in _TURN.finditer(comparison) if turn["role"] == "assistant"
    ]
    good = [text for mark, text in marked if mark == "GOOD" and text]
    bad = [text for mark, text in marked if mark == "BAD" and text]
    if not turns or not good or not bad:
        draft.note(
            line,
            f"an example is not imported: {len(turns)} turns, {len(good)} GOOD, {len(bad)} BAD; one each is needed",
        )
        return
    only_user = len(turns) == 1 and turns[0][0] == "user"
    if not only_user:
        draft.note(line, f"an example's {len(turns)} turns become one prompt with the roles written before them")
    prompt = turns[0][1] if only_user else "\n\n".join(f"{role.capitalize()}: {text}" for role, text in turns)
    if not prompt:
        draft.note(line, "an example is not imported: its prompt is empty")
        return
    yield from ({"prompt": prompt, "a": right, "b": wrong, "expect": "a"} for right in good for wrong in bad)
