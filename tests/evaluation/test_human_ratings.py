"""Blinded pairs for people, and their ratings read back."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from evaluation.human_ratings import KeyRow, RatingKey, blind, gold_lines, read_ratings, sheet_text, tally
from judges.gold import load_gold
from ratify.errors import InputError
from ratify.types import Completion, Message, Prompt


def reply(name: str, index: int, policy: str, text: str) -> Completion:
    return Completion(id=f"{name}/{policy}/{index}", prompt_id=name, text=text, finish_reason="stop",
                      prompt_tokens=1, completion_tokens=1, seed=0)  # fmt: skip


NAMES = [f"p{n}" for n in range(60)]
PROMPTS = {name: Prompt(id=name, messages=(Message(role="user", content=f"ask {name}"),)) for name in NAMES}
PAIRS = [(reply(name, i, "old", f"old {name} {i}"), reply(name, i, "new", f"new {name} {i}"))
         for name in NAMES for i in range(2)]  # fmt: skip


def key(count: int | None = None, seed: int = 1) -> RatingKey:
    rows, identical = blind(PROMPTS, PAIRS, count, seed)
    return RatingKey(run="r", old="o", new="n", seed=seed, rows=tuple(rows), identical=tuple(identical))


def test_sides_are_even_and_nothing_on_the_sheet_tells_them() -> None:
    made = key()
    sides = Counter(row.new for row in made.rows)
    assert abs(sides["a"] - 60) < 22, "within four standard errors"
    assert all((row.a if row.new == "a" else row.b).startswith("new") for row in made.rows)
    sheet = sheet_text(made.rows, "csv")
    assert sheet.splitlines()[0] == "id,prompt,a,b,rating"
    assert [row.id for row in made.rows] != sorted(row.id for row in made.rows)
    assert key() == made and key(seed=2) != made


def test_no_prompt_is_shown_twice_before_every_prompt_is_shown_once() -> None:
    assert Counter(row.prompt_id for row in key(60).rows) == dict.fromkeys(NAMES, 1)
    assert len(key(90).rows) == 90


def test_formulas_are_harmless_in_a_spreadsheet() -> None:
    row = KeyRow(id="x", prompt_id="p", messages=PROMPTS["p0"].messages, a="=1+1", b="fine", new="a")
    assert next(csv.DictReader(io.StringIO(sheet_text([row], "csv"))))["a"] == "'=1+1"
    assert json.loads(sheet_text([row], "jsonl"))["a"] == "=1+1"


def rated(made: RatingKey, path: Path, wins: int, losses: int) -> Path:
    """A sheet in which the new policy wins the first rows, loses the next, ties the rest; the last is left empty."""
    reader = csv.DictReader(io.StringIO(sheet_text(made.rows, "csv")))
    rows = list(reader)
    for number, (row, known) in enumerate(zip(rows, made.rows, strict=True)):
        loser = "b" if known.new == "a" else "a"
        row["rating"] = known.new.upper() if number < wins else loser if number < wins + losses else "tie"
    rows[-1]["rating"] = " "
    with path.open("w", encoding="utf-8-sig", newline="") as handle:
        writer = csv.DictWriter(handle, reader.fieldnames or [])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_win_rate_counts_ties_and_identical_replies_as_one_half(tmp_path: Path) -> None:
    pairs = [*PAIRS[:98], *((old, new.model_copy(update={"text": old.text})) for old, new in PAIRS[98:108])]
    rows, identical = blind(PROMPTS, pairs, None, 1)
    made = RatingKey(run="r", old="o", new="n", seed=1, rows=tuple(rows), identical=tuple(identical))
    found = tally(made, [read_ratings(rated(made, tmp_path / "one.csv", 50, 20), made)])
    assert (found.wins, found.losses, found.ties, found.identical, found.unrated) == (50, 20, 27, 10, 1)
    assert found.win_rate.value == pytest.approx((50 + 27 / 2 + 10 / 2) / 107)
    assert found.win_rate.low is not None and 0.5 < found.win_rate.low < found.win_rate.value
    assert found.agreement is None


def test_two_raters_are_averaged_and_their_agreement_is_measured(tmp_path: Path) -> None:
    made = key(40)
    sheets = [read_ratings(rated(made, tmp_path / f"{wins}.csv", wins, 39 - wins), made) for wins in (30, 20)]
    found = tally(made, sheets)
    assert found.win_rate.value == pytest.approx((20 * 1 + 10 * 0.5) / 39)
    assert found.agreement is not None and found.agreement.value == pytest.approx(29 / 39)
    assert found.ties == 10, "where two raters differ nobody has most"


def test_rated_pairs_are_gold_for_judges(tmp_path: Path) -> None:
    made = key(30)
    found = tally(made, [read_ratings(rated(made, tmp_path / "one.csv", 20, 9), made)])
    (tmp_path / "gold.jsonl").write_text("".join(gold_lines(made, found.verdicts)))
    gold = load_gold(tmp_path / "gold.jsonl")
    assert len(gold.pairs) == 29
    wins = [
        a.text if better == "a" else b.text for (a, b), better in zip(gold.pairs, gold.better().values(), strict=True)
    ]
    assert Counter(text.split()[0] for text in wins) == {"new": 20, "old": 9}


@pytest.mark.parametrize(
    ("text", "said"),
    [("id,rating\nnobody,a\n", "is not in the key"), ("id,rating\n{id},left\n", "'left' is none of a, b and tie"),
     ("id,rating\n{id},a\n{id},b\n", "is rated twice"), ("name,rating\nx,a\n", "needs the columns id and rating")],
)  # fmt: skip
def test_bad_sheets_are_one_sentence_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    made = key(3)
    path = tmp_path / "bad.csv"
    path.write_text(text.replace("{id}", made.rows[0].id))
    with pytest.raises(InputError, match=rf"bad.csv:\d+: .*{said}"):
        read_ratings(path, made)
