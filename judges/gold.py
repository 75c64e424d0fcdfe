"""Gold: pairs of which it is known which reply is better, and how far a judge agrees with it.

A line of a gold file is a pair: `messages` (or a `prompt` text), two replies `a` and `b`, and `gold`, which is `a`,
`b` or `tie`, or says it by principle id, with `overall` for the whole. Optional: `id`, `tags`, and `a_model` and
`b_model`, who wrote the replies.

A judge agrees with gold where its label leans to the better reply, however little; log-odds of exactly 0 are half
right, a pair that gold ties does not count, and a failed label is a missing vote, never a wrong one.

Left out: asking the judge, and several people's votes on one pair (`agreement_statistics.share_of_ceiling`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator

from judges.questions import Pair
from ratify.canonical import digest
from ratify.errors import InputError
from ratify.intervals import STANDARD, Estimate, EvidenceError, Resampling, mean
from ratify.types import Completion, Label, Message, Prompt, Record

Winner = Literal["a", "b", "tie"]
OVERALL = "overall"
_FORM = '{"prompt": "…", "a": "…", "b": "…", "gold": "a"}'


class GoldPair(Record):
    """One line of a gold file."""

    id: str = ""
    messages: tuple[Message, ...] = Field(min_length=1)
    tags: tuple[str, ...] = ()
    a: str
    b: str
    gold: dict[str, Winner] = Field(min_length=1)
    """Which reply is better, by principle id and `overall`."""
    a_model: str = ""
    """Who wrote reply a; empty when it is not known."""
    b_model: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_a_text(cls, row: Any) -> Any:
        if isinstance(row, dict) and "prompt" in row and "messages" not in row:
            row = dict(row)
            row["messages"] = [{"role": "user", "content": row.pop("prompt")}]
        return row

    @field_validator("gold", mode="before")
    @classmethod
    def _alone(cls, gold: Any) -> Any:
        return {OVERALL: gold} if isinstance(gold, str) else gold


class Gold(NamedTuple):
    """A gold set, its parts in the same order."""

    prompts: dict[str, Prompt]
    """By id; ids begin with `gold/`, so that no prompt of a run has one of them."""
    pairs: list[Pair]
    winners: list[dict[str, Winner]]
    authors: dict[str, str]
    """Completion id → the model that wrote it, where that is known."""

    def drawn(self, count: int, seed: int) -> Gold:
        """`count` pairs drawn by seed, all when there are fewer; a smaller draw is part of a larger one."""
        order = list(range(len(self.pairs)))
        random.Random(seed).shuffle(order)
        kept = sorted(order[:count])
        pairs = [self.pairs[place] for place in kept]
        prompts = {a.prompt_id: self.prompts[a.prompt_id] for a, _ in pairs}
        return Gold(prompts, pairs, [self.winners[place] for place in kept], self.authors)

    def better(self, name: str = OVERALL) -> dict[tuple[str, str], Literal["a", "b"]]:
        """The better reply of every pair that gold decides, by the ids of a and b."""
        decided: dict[tuple[str, str], Literal["a", "b"]] = {}
        for (a, b), winners in zip(self.pairs, self.winners, strict=True):
            winner = winners.get(name, "tie")
            if winner != "tie":
                decided[a.id, b.id] = winner
        return decided

    def quality(self, name: str) -> dict[tuple[str, str], float]:
        """1 where a is better, −1 where b is, 0 at a tie; by the principle's own gold, else by the overall one."""
        values = {"a": 1.0, "b": -1.0, "tie": 0.0}
        known = [(pair, w.get(name, w.get(OVERALL))) for pair, w in zip(self.pairs, self.winners, strict=True)]
        return {(a.id, b.id): values[winner] for (a, b), winner in known if winner is not None}


class GoldAgreement(Record):
    """How far a judge agrees with gold."""

    pairs: int
    """Gold pairs that were judged."""
    failed: int
    """Of these, pairs without a label."""
    overall: Estimate | None
    """Share of the pairs that gold decides; None when it decides none, or none of them has a label."""
    by_principle: dict[str, Estimate] = Field(default_factory=dict)
    """Likewise for each principle that gold names."""
    of_ceiling: Estimate | None = None
    """Overall agreement over how often people agree with gold, as far as that is known."""


def load_gold(path: Path) -> Gold:
    """Read a gold file.

    Raises:
        InputError: it cannot be read, holds no pair, or a line is none; with file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"gold file {path} cannot be read: {error}") from None
    gold = Gold({}, [], [], {})
    for number, line in enumerate(lines, start=1):
        if line.strip():
            _add(gold, _read(path, number, line), path, number)
    if not gold.pairs:
        raise InputError(f"gold file {path} holds no pair; a line is of the form {_FORM}")
    return gold


def gold_agreement(
    gold: Gold, labels: Sequence[Label], ceiling: float | None = None, how: Resampling = STANDARD
) -> GoldAgreement:
    """Hold the labels of `gold.pairs`, in their order, against gold."""
    by_ids = {(label.a_id, label.b_id): label for label in labels}
    margins = {ids: label.margin for ids, label in by_ids.items() if label.margin is not None}
    overall = _share(gold, OVERALL, margins, how)
    names = dict.fromkeys(name for winners in gold.winners for name in winners if name != OVERALL)
    views = {name: _views(name, by_ids) for name in names}
    found = {name: share for name in names if (share := _share(gold, name, views[name], how))}
    return GoldAgreement(
        pairs=len(gold.pairs),
        failed=len(gold.pairs) - sum((a.id, b.id) in margins for a, b in gold.pairs),
        overall=overall,
        by_principle=found,
        of_ceiling=None if overall is None or ceiling is None else _over(overall, ceiling),
    )


def _views(name: str, labels: Mapping[tuple[str, str], Label]) -> dict[tuple[str, str], float]:
    return {ids: label.by_principle[name] for ids, label in labels.items() if name in label.by_principle}


def _share(gold: Gold, name: str, leads: Mapping[tuple[str, str], float], how: Resampling) -> Estimate | None:
    """Share of decided pairs in which the lead, in favour of a, goes to the better reply."""
    prompt_of = {(a.id, b.id): a.prompt_id for a, b in gold.pairs}
    better = {ids: winner for ids, winner in gold.better(name).items() if ids in leads}
    right = [_right(leads[ids] if winner == "a" else -leads[ids]) for ids, winner in better.items()]
    try:
        return mean(right, [prompt_of[ids] for ids in better], how, share=True)
    except EvidenceError:
        return None


def _right(lead: float) -> float:
    return 0.5 if lead == 0 else float(lead > 0)


def _over(share: Estimate, ceiling: float) -> Estimate:
    low, high = (None if end is None else end / ceiling for end in (share.low, share.high))
    return share.model_copy(update={"value": share.value / ceiling, "low": low, "high": high})


def _read(path: Path, number: int, line: str) -> GoldPair:
    try:
        return GoldPair.model_validate(json.loads(line))
    except ValueError as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else None
        where = ".".join(str(part) for part in fault["loc"]) if fault else ""
        why = f"{where}: {fault['msg']}".removeprefix(": ") if fault else "not JSON"
        raise InputError.at(path, number, f"not a gold pair ({why}); a line is of the form {_FORM}") from None


def _add(gold: Gold, row: GoldPair, path: Path, number: int) -> None:
    name = f"gold/{row.id or digest(row.model_dump(mode='json'))[:16]}"
    if name in gold.prompts:
        raise InputError.at(path, number, f"repeats the id (or the pair) {name.removeprefix('gold/')!r}")
    prompt = Prompt(id=name, messages=row.messages, tags=row.tags)
    a, b = (_reply(prompt, side, text) for side, text in (("a", row.a), ("b", row.b)))
    gold.prompts[name] = prompt
    gold.pairs.append((a, b))
    gold.winners.append(dict(row.gold))
    gold.authors.update({each.id: model for each, model in ((a, row.a_model), (b, row.b_model)) if model})


def _reply(prompt: Prompt, side: str, text: str) -> Completion:
    return Completion(
        id=f"{prompt.id}/{side}", prompt_id=prompt.id, text=text, finish_reason="stop",
        prompt_tokens=0, completion_tokens=0, seed=0,
    )  # fmt: skip
