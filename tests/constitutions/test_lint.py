"""Each lint code finds what it is for at its line, leaves sound texts alone, and is silenced in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from constitutions.lint import CODES, Finding, lint
from constitutions.lint_structure import Surroundings
from constitutions.lint_wording import TEXT_RULES
from constitutions.load import parse_constitution
from constitutions.source import Source
from ratify.lineage import ROOT
from ratify.types import Message, Prompt

HEAD = "schema: constitution/v1\nid: x\nversion: 1.0.0\ntiers: [t]\nprinciples:\n"
SOUND = "  - id: p\n    tier: t\n    text: The reply is kind.\n"  # lines 6 to 8


def findings(body: str, around: Surroundings | None = None) -> list[tuple[int, str]]:
    return [(each.line, each.code) for each in found(body, around)]


def found(body: str, around: Surroundings | None = None) -> list[Finding]:
    return lint(Source(Path("c.yaml"), HEAD + body), around)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("compound", "The reply is short and does not ramble."),
        ("compound", "The reply is warm and/or witty."),
        ("compound", "The reply names its source; it links to it."),
        ("double-negation", "The reply does not refuse a plain request."),
        ("double-negation", "The reply is never without a source."),
        ("vague-word", "The reply is appropriate."),
        ("absolute-word", "The reply always names a source."),
        ("label-letter", "Response A is kinder."),
        ("label-letter", "Say (A) when the reply is kind."),
        ("length-wording", "The reply is thorough."),
        ("request", "Please rewrite the response."),
        ("question", "Which reply is kinder?"),
        ("doubled-word", "The reply names the the source."),
        ("long-text", "The reply " + "names it " * 80),
    ],
)
def test_wording_is_found_at_its_line(code: str, text: str) -> None:
    assert (7, code) in findings(f"  - id: q\n    text: {text!r}\n")


@pytest.mark.parametrize(
    "text",
    [
        "The reply is polite and respectful.",
        "The reply gives no help with stealing.",
        "Prefer the reply that does not reveal a private person's address or whereabouts.",
        "The reply answers in the language of the question.",
        "The reply is a list of three fruits, separated by commas.",
        "The reply says that that is unknown.",
    ],
)
def test_sound_texts_are_left_alone(text: str) -> None:
    assert [code for code, rule in TEXT_RULES.items() if list(rule(text))] == []


@pytest.mark.parametrize(
    ("line", "code", "body"),
    [
        (10, "duplicate", SOUND + "  - id: q\n    text: the reply, is KIND\n"),
        (
            9, "near-duplicate",
            "  - {id: q, text: The reply insults no person.}\n\n\n  - {id: r, text: The reply insults no persons.}\n",
        ),
        (8, "zero-weight", "  - id: q\n    text: The reply is kind.\n    weight: 0\n  - {id: r, text: It is brief.}\n"),
        (8, "hard-unproven", "  - id: q\n    text: The reply is kind.\n    severity: hard\n"),
        (9, "unreachable", SOUND + "    applies_to: {any_regex: ['$never']}\n"),
        (9, "boundless-scope", SOUND + "    applies_to: {any_regex: ['a*']}\n"),
    ],
)  # fmt: skip
def test_structure_is_found_at_its_line(line: int, code: str, body: str) -> None:
    assert (line, code) in findings(body)


def test_a_retired_principle_is_no_duplicate() -> None:
    assert findings("  - {id: o, status: retired, text: The reply is kind.}\n" + SOUND) == []


def test_a_scope_without_a_prompt_is_unreachable() -> None:
    prompts = [Prompt(id="1", messages=(Message(role="user", content="hello"),), tags=("greeting",))]
    around = Surroundings(prompts=prompts)
    assert findings(SOUND + "    applies_to: {tags: [privacy]}\n", around) == [(9, "unreachable")]
    assert findings(SOUND + "    applies_to: {tags: [greeting]}\n", around) == []


def test_a_version_below_the_computed_one_is_found() -> None:
    earlier = parse_constitution(HEAD + SOUND.replace("kind", "brief"), Path("old.yaml"))
    (finding,) = found(SOUND, Surroundings(against=earlier))
    assert (finding.line, finding.code) == (3, "low-version")
    assert "version 1.0.0 is below 1.1.0" in finding.why and "write `version: 1.1.0` or higher" in finding.remedy


def test_judge_and_policy_of_one_family_are_found(tmp_path: Path) -> None:
    around = Surroundings(judge_model="Qwen/Qwen3-8B", policy_model="models/qwen2.5-0.5b")
    assert findings(SOUND, around) == [(1, "judge-family")]
    assert findings(SOUND, around._replace(judge_model="meta-llama/Llama-3.1-8B")) == []
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    assert findings(SOUND, around._replace(judge_model=str(tmp_path))) == [(1, "judge-family")]
    assert findings(SOUND, Surroundings(judge_model="my-judge", policy_model="my-policy")) == []


@pytest.mark.parametrize(
    "body",
    [
        "  - id: q\n    text: The reply is good.  # lint: off vague-word see the examples\n",
        "  - id: q\n    # lint: off vague-word see the examples\n    text: The reply is good.\n",
        "  # lint: off vague-word see the examples\n  - id: q\n    tier: t\n    text: The reply is good.\n",
        "  # lint: off vague-word why\n  # lint: off absolute-word why\n  - {id: q, text: The reply is always good.}\n",
    ],
)
def test_a_finding_is_silenced_where_it_stands(body: str) -> None:
    assert findings(body) == []


def test_a_silence_above_a_principle_ends_with_it() -> None:
    silenced = "  # lint: off vague-word reason\n  - id: q\n    text: The reply is good.\n"
    assert findings(silenced + "  - id: r\n    text: The reply is nice.\n") == [(10, "vague-word")]


@pytest.mark.parametrize(
    ("comment", "why"),
    [
        ("# lint: off vague-wrod reason", "'vague-wrod' is no code"),
        ("# lint: off vague-word", "the silence gives no reason"),
        ("# lint: off absolute-word reason", "nothing here is reported as absolute-word"),
    ],
)
def test_a_silence_that_is_wrong_is_a_finding(comment: str, why: str) -> None:
    last = found(f"  - id: q\n    {comment}\n    text: The reply is kind.\n")[-1]
    assert (last.line, last.code) == (7, "idle-silence") and why in last.why


def test_a_finding_is_one_line_with_file_line_code_why_and_remedy() -> None:
    (finding,) = found("  - {id: q, text: Is the reply kind?}\n")
    assert str(finding) == (
        "c.yaml:6: question: the text is a question, so it is open whether yes or no is the better answer; "
        "turn it into a statement that begins with `The reply …`"
    )


def test_every_code_is_documented() -> None:
    page = (ROOT / "docs" / "constitutions.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in page] == []


@pytest.mark.parametrize("path", sorted((ROOT / "constitutions").glob("*.yaml")), ids=lambda path: path.name)
def test_what_ships_has_no_lint(path: Path) -> None:
    assert [str(finding) for finding in lint(Source(path, path.read_text()))] == []
