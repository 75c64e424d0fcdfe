"""Every fault of a constitution is one sentence with its file and line; what ships loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitutions import load
from constitutions.load import load_constitution, parse_constitution
from ratify.errors import ConstitutionError
from ratify.lineage import ROOT

HEAD = "schema: constitution/v1\nid: x\nversion: 1.0.0\ntiers: [t]\nprinciples:\n"
GOOD = HEAD + "  - id: p\n    tier: t\n    text: be good\n"  # lines 6, 7, 8


@pytest.mark.parametrize("path", sorted((ROOT / "constitutions").glob("*.yaml")), ids=lambda path: path.name)
def test_what_ships_loads(path: Path) -> None:
    assert load_constitution(path).principles


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "    wieght: 2\n", "c.yaml:9: unknown field 'wieght'; did you mean 'weight'?"),
        (GOOD + "x: 1\n", "c.yaml:9: unknown field 'x'; known fields: schema, id, version, "),
        (GOOD + "    applies_to: {tag: [a]}\n", "c.yaml:9: unknown field 'tag'; did you mean 'tags'?"),
        (GOOD + "  - id: p\n    text: y\n", "c.yaml:9: the id 'p' is already used on line 6; give each"),
        (
            GOOD + "    text: again\n",
            'c.yaml:9: not valid YAML: while constructing a mapping found duplicate key "text"',
        ),
        (
            GOOD + "    checks:\n      - {type: magic}\n",
            "c.yaml:10: unknown check type 'magic'; known types: regex_absent, ",
        ),
        (GOOD + "    checks: [{value: 3}]\n", "c.yaml:9: a check needs a type; known types: "),
        (
            GOOD + "    checks: [{type: max_words, vlaue: 3}]\n",
            "c.yaml:9: the field 'value' is missing in principle 1.",
        ),
        (
            GOOD + "  - id: q\n    tier: u\n    text: e\n",
            "c.yaml:10: principle 'q' has the unknown tier 'u'; known tiers: t",
        ),
        (
            GOOD + "    checks: [{type: regex_absent, pattern: '(a'}]\n",
            "the pattern is not a regular expression: missing )",
        ),
        (
            GOOD + "    checks: [{type: regex_absent, pattern: '(a+)+b'}]\n",
            "the pattern can match one text in exponentially",
        ),
        (GOOD + "    applies_to: {any_regex: ['(x*)*']}\n", "c.yaml:9: principle 1.applies_to.any_regex: the pattern"),
        (GOOD + "    weight: -1\n", "c.yaml:9: principle 1.weight: should be greater than or equal to 0 (given: -1)"),
        (GOOD + "    weight: .nan\n", "c.yaml:9: principle 1.weight: should be"),
        (GOOD + "    severity: harsh\n", "c.yaml:9: principle 1.severity: should be 'hard', 'soft' or 'info'"),
        (GOOD + "  - text: e\n", "c.yaml:9: the field 'id' is missing in principle 2"),
        (GOOD + "  - id: P Q\n    text: e\n", "c.yaml:9: principle 2.id: 'P Q' is not of the form"),
        (GOOD + "aggregate: {clamp: [0.9, 0.1]}\n", "c.yaml:9: aggregate: clamp is two probabilities around one half"),
        (GOOD + "    meta: !!python/object:os.system x\n", "c.yaml:9: this value has a YAML tag"),
        (GOOD + "    severity: info\n", "c.yaml:5: no principle can decide"),
        (HEAD + "  []\n", "c.yaml:5: there are no principles; add at least one"),
        ("schema: constitution/v1\nid: x\nversion: 1.0.0\n", "c.yaml:1: there are no principles; add at least one"),
        ("schema: constitution/v9\nid: x\n", "c.yaml:1: the schema is 'constitution/v9', and this version"),
        ("schema: constitution/v1\nid: x\nversion: 1.0\n", "c.yaml:3: version: should be a text (given: 1.0)"),
        ("a: [1,\nb: 2\n", "c.yaml:3: not valid YAML: while parsing a flow sequence expected"),
        ("", "c.yaml:1: the file is empty; a constitution begins with"),
        ("- a\n", "c.yaml:1: the file is not a mapping of fields"),
        ("1: 2\n", "c.yaml:1: the field name 1 is not a text"),
    ],
)
def test_a_fault_is_one_sentence_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(ConstitutionError) as caught:
        parse_constitution(text, Path("c.yaml"))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value) and "c.yaml:" in str(caught.value)


def test_a_missing_file_and_a_binary_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConstitutionError, match="does not exist"):
        load_constitution(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConstitutionError, match="is not UTF-8"):
        load_constitution(tmp_path / "b.yaml")


def test_anchors_that_multiply_are_refused() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    with pytest.raises(ConstitutionError, match="unfolds to more than"):
        parse_constitution(bomb, Path("c.yaml"))


def test_no_is_a_text_as_in_yaml_1_2() -> None:
    constitution = parse_constitution(GOOD.replace("be good", "no"), Path("c.yaml"))
    assert constitution.principles[0].text == "no"


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "[" * 20_000 + "]" * 20_000, "- " * 20_000], ids=["open", "closed", "dashes"]
)
def test_nesting_without_end_is_one_sentence(text: str) -> None:
    with pytest.raises(ConstitutionError, match="c.yaml:1: ") as caught:
        parse_constitution(text, Path("c.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "constitutions").glob("*.yaml")), ids=lambda path: path.name)
def test_both_parsers_read_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = load_constitution(path)
    monkeypatch.setattr(load, "_quickly", lambda text: None)
    assert load_constitution(path) == quick
