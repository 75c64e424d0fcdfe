"""Pairs of two policies for people to rate, blinded, and what their ratings add up to.

A sheet shows a prompt and two replies, a and b, and nothing that tells the policies apart: which side is whose is drawn
by seed, rows are shuffled, ids say nothing. What is what stands in a key, a file of its own that raters do not get.
Ratings are read against the key alone, so that nothing depends on what a spreadsheet did to the texts. Ties count one
half; identical replies are not shown to anybody and count as ties, because leaving them out would flatter a change.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

from pydantic import ValidationError

from evaluation.intervals import STANDARD, Estimate, EvidenceError, Resampling, mean, proportion
from ratify.canonical import digest
from ratify.errors import InputError
from ratify.types import Completion, Message, Prompt, Record

COLUMNS = ("id", "prompt", "a", "b", "rating")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell may not begin with, or a spreadsheet computes it."""
ID = 12
"""Characters of a row's id."""

Rating = Literal["a", "b", "tie"]
Side = Literal["a", "b"]
Pair = tuple[Completion, Completion]
"""The old policy's reply and the new one's."""


class KeyRow(Record):
    """One row of a sheet, with what raters must not know."""

    id: str
    prompt_id: str
    messages: tuple[Message, ...]
    a: str
    b: str
    new: Side
    """Which side is the new policy's."""


class RatingKey(Record):
    """The key to a sheet."""

    format: Literal["ratify.ab/1"] = "ratify.ab/1"
    run: str
    old: str
    """Name and hash of the old policy."""
    new: str
    seed: int
    identical: tuple[str, ...] = ()
    """Prompts of drawn pairs whose replies are the same; they count as ties."""
    rows: tuple[KeyRow, ...]


class Ratings(NamedTuple):
    """What people said."""

    win_rate: Estimate
    """Of the new policy; ties one half, interval over prompts."""
    wins: int
    ties: int
    losses: int
    identical: int
    unrated: int
    """Rows that nobody rated."""
    raters: int
    agreement: Estimate | None
    """Share of pairs of ratings of one row, by different raters, that are equal; None without any."""
    verdicts: Mapping[str, Rating]
    """Row → what most of its raters say; a tie where they are split."""


def blind(
    prompts: Mapping[str, Prompt], pairs: Sequence[Pair], count: int | None, seed: int
) -> tuple[list[KeyRow], list[str]]:
    """Draw (old, new) pairs, one of each prompt before a second of any, and hide whose is whose.

    Returns:
        The rows in the order of the sheet, and the prompts of drawn pairs whose replies are identical.
    """
    dice = random.Random(f"ratings/{seed}")
    drawn = _one_a_prompt(pairs, dice)[:count]
    identical = [old.prompt_id for old, new in drawn if old.text == new.text]
    rows = []
    for old, new in (pair for pair in drawn if pair[0].text != pair[1].text):
        side: Side = dice.choice(("a", "b"))
        a, b = (new, old) if side == "a" else (old, new)
        name = digest([seed, old.prompt_id, old.text, new.text, old.id])[:ID]
        rows.append(
            KeyRow(id=name, prompt_id=old.prompt_id, messages=prompts[old.prompt_id].messages, a=a.text, b=b.text,
                   new=side)
        )  # fmt: skip
    dice.shuffle(rows)
    return rows, identical


def sheet_text(rows: Sequence[KeyRow], kind: Literal["csv", "jsonl"]) -> str:
    """The sheet that raters fill in."""
    shown = [
        {"id": row.id, "prompt": _spoken(row.messages), "a": row.a, "b": row.b, "rating": ""} for row in rows
    ]  # fmt: skip
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shown)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in shown)
    return text.getvalue()


def read_key(path: Path) -> RatingKey:
    """Read a key.

    Raises:
        InputError: it is none.
    """
    try:
        return RatingKey.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"{path} is not the key of a rating sheet: {str(error).splitlines()[0]}") from None


def read_ratings(path: Path, key: RatingKey) -> dict[str, Rating]:
    """One rater's sheet: row → rating; empty ratings are left out.

    Raises:
        InputError: the file cannot be read, a row is not of this key or occurs twice, or a rating is none of a, b, tie.
    """
    known, found = {row.id for row in key.rows}, dict[str, Rating]()
    for line, row in _sheet_rows(path):
        name, rating = str(row.get("id") or "").strip(), str(row.get("rating") or "").strip().lower()
        if name not in known:
            raise InputError.at(path, line, f"row {name!r} is not in the key; use the key written with the sheet")
        if name in found:
            raise InputError.at(path, line, f"row {name!r} is rated twice; give each rater a file")
        if rating and rating not in ("a", "b", "tie"):
            raise InputError.at(path, line, f"rating {rating!r} is none of a, b and tie; leave it empty to skip")
        if rating:
            found[name] = cast(Rating, rating)
    return found


def tally(key: RatingKey, sheets: Sequence[Mapping[str, Rating]], how: Resampling = STANDARD) -> Ratings:
    """Add up the ratings of one or more raters.

    Raises:
        EvidenceError: nothing was rated.
    """
    by_row = {row.id: [sheet[row.id] for sheet in sheets if row.id in sheet] for row in key.rows}
    rated = [row for row in key.rows if by_row[row.id]]
    if not rated:
        raise EvidenceError("ratings: no row has a rating")
    verdicts = {row.id: _most(by_row[row.id]) for row in rated}
    values = [sum(_worth(row, rating) for rating in by_row[row.id]) / len(by_row[row.id]) for row in rated]
    prompts = [row.prompt_id for row in rated] + list(key.identical)
    outcomes = Counter(_worth(row, verdicts[row.id]) for row in rated)
    pairs = [(one, two) for said in by_row.values() for n, one in enumerate(said) for two in said[n + 1 :]]
    return Ratings(
        win_rate=mean([*values, *(0.5 for _ in key.identical)], prompts, how, share=True),
        wins=outcomes[1.0], ties=outcomes[0.5], losses=outcomes[0.0],
        identical=len(key.identical), unrated=len(key.rows) - len(rated), raters=len(sheets),
        agreement=proportion(sum(one == two for one, two in pairs), len(pairs)) if pairs else None,
        verdicts=verdicts,
    )  # fmt: skip


def gold_lines(key: RatingKey, verdicts: Mapping[str, Rating]) -> Iterable[str]:
    """The rated rows as gold pairs for `gold.path`; the replies' sides are those of the sheet."""
    for row in key.rows:
        if row.id in verdicts:
            messages = [message.model_dump() for message in row.messages]
            gold = {"id": row.id, "messages": messages, "a": row.a, "b": row.b, "gold": verdicts[row.id]}
            yield json.dumps(gold, ensure_ascii=False) + "\n"


def _one_a_prompt(pairs: Sequence[Pair], dice: random.Random) -> list[Pair]:
    """The pairs shuffled, the first of every prompt before any second."""
    shuffled, seen, ranked = dice.sample(list(pairs), len(pairs)), Counter[str](), []
    for pair in shuffled:
        ranked.append((seen[pair[0].prompt_id], pair))
        seen[pair[0].prompt_id] += 1
    return [pair for _, pair in sorted(ranked, key=lambda each: each[0])]


def _spoken(messages: Sequence[Message]) -> str:
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _sheet_rows(path: Path) -> list[tuple[int, Mapping[str, object]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"rating sheet {path} cannot be read: {error}") from None
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows: list[tuple[int, Mapping[str, object]]] = [(reader.line_num, row) for row in reader]
        if reader.fieldnames is None or not {"id", "rating"} <= set(reader.fieldnames):
            raise InputError.at(path, 1, "a rating sheet needs the columns id and rating")
        return rows
    return [(number, _json_row(path, number, line)) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _json_row(path: Path, number: int, line: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError.at(path, number, f"not valid JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise InputError.at(path, number, 'a rating is a JSON object, such as {"id": "…", "rating": "a"}')
    return row


def _worth(row: KeyRow, rating: Rating) -> float:
    return 0.5 if rating == "tie" else float(rating == row.new)


def _most(said: Sequence[Rating]) -> Rating:
    """What most say; a tie where none has most."""
    ranked = Counter(said).most_common(2)
    return "tie" if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]
