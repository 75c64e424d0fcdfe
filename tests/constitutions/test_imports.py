"""Importers keep every word, count every principle, and report what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitutions.drafts import Draft
from constitutions.imports import import_draft
from constitutions.lint import lint
from constitutions.load import parse_constitution
from constitutions.source import Source
from ratify.errors import ConstitutionError
from ratify.lineage import ROOT

HERE = Path(__file__).parent / "imported"


@pytest.fixture
def realdata() -> Path:
    folder = ROOT.parent / "shared" / "realdata"
    if not folder.is_dir():
        pytest.skip("the public data of ../shared/realdata is not on this machine")
    return folder


def imported(name: str) -> Draft:
    return import_draft(HERE / name)


def noted(draft: Draft, sentence: str) -> bool:
    return any(sentence in note for note in draft.notes)


def test_critique_and_revision_instructions_lose_their_role_marks_and_no_word() -> None:
    draft = imported("critiques.json")
    first, second = draft.constitution("x").principles
    assert first.critique_request == "Say where the reply mocks the person, overly-sharp of tone or not."
    assert first.text == first.revision_request == "Rewrite the reply without mockery."
    assert second.id == "harmful-one" and second.critique_request == "Say where the reply lies."
    assert noted(draft, "critiques.json:7: Harmful One.prompt is not of the form `CritiqueRequest: … Critique:`")
    assert noted(draft, "critiques.json:10: harmful2 is not imported: it has neither")


def test_comparison_principles_lose_their_role_marks_and_no_word() -> None:
    draft = imported("comparisons.json")
    assert [each.text for each in draft.constitution("x").principles] == [
        "Which of these replies is kinder?",
        "Pick the reply that lies less.",
    ]
    assert noted(draft, "[1] is not of the form") and noted(draft, "[2] is not imported: it is no text")


def test_a_model_spec_becomes_tiers_principles_and_tests() -> None:
    draft = imported("spec.md")
    constitution = draft.constitution("spec")
    assert constitution.tiers == ("root", "guideline")
    truth, brief = constitution.principles
    assert (truth.id, truth.tier, brief.id) == ("truth.first", "root", "be_brief")
    assert truth.text == "The assistant should say what is true.\n\nIt should say so **kindly**."
    (test,) = truth.tests
    assert (test.prompt, test.a, test.b) == ("What is 7 times 8?", "56\n# not a heading either", "54")
    assert brief.tests[0].prompt == "Developer: Sell tea.\n\nUser: Hello"
    assert noted(draft, "spec.md:1: section 'Overview' is not imported: it has no authority")
    assert noted(draft, "1 turns, 1 GOOD, 0 BAD") and noted(draft, "section 'Empty' is not imported: it has no prose")
    assert noted(draft, "spec.md:11: an aside is not imported")


def test_promptfoo_rubrics_become_principles_with_their_weights() -> None:
    draft = imported("promptfoo.yaml")
    assert [(each.text, each.weight) for each in draft.constitution("x").principles] == [
        ("Does not describe itself as an AI", 2.0),
        ("Is polite to {{name}}", 1.0),
    ]
    for sentence in (
        "promptfoo.yaml:5: a rubric is used 2 times",
        "template variables",
        "tests[0].assert[0].threshold is not imported",
        "tests[0].assert[1] is not imported: only llm-rubric becomes a principle, not contains",
        "its rubric is in another file",
    ):
        assert noted(draft, sentence), sentence


@pytest.mark.realdata
def test_the_llm_swarm_file_imports_to_its_full_count_and_lint_says_what_is_wrong(realdata: Path) -> None:
    path = realdata / "constitutions" / "hf_constitution_anthropic.json"
    pairs = json.loads(path.read_text())["constitutions"]
    draft = import_draft(path)
    principles = draft.constitution("hf").principles
    assert [(each.critique_request, each.revision_request) for each in principles] == [
        (pair["critic"].strip(), pair["revision"].strip()) for pair in pairs
    ]
    assert len(principles) == 16 and noted(draft, "system_chat is not imported (4 entries)")
    found = {finding.code for finding in lint(Source(Path("hf.yaml"), draft.yaml("hf")))}
    assert found >= {"request", "vague-word", "absolute-word", "compound", "near-duplicate", "doubled-word"}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.json", '{"constitutions": [', "a.json:1: not valid JSON"),
        ("a.json", '{"constitutions": []}', "a.json:1: nothing in this file can be imported"),
        ("a.json", '{"x": 1}', "a.json:1: not the shape of the format anthropic"),
        ("a.txt", "hello", "a.txt:1: this is none of the formats"),
        ("a.yaml", "tests: [", "a.yaml:1: not valid YAML"),
        ("a.yaml", "x: 1", "a.yaml:1: not a promptfoo configuration"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConstitutionError) as caught:
        import_draft(tmp_path / name)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: b # c",
        "  two\n\n lines ",
        "tab\tand \\ 'quote' \"",
        "- no",
        "line \nspace",
        "ends\n",
        "x " * 200,
        "é\u200b…",
    ],
)
def test_any_text_survives_the_writing(text: str) -> None:
    draft = Draft(Path("x.txt"), "")
    draft.add("p", 1, text=text, critique_request=text)
    principle = parse_constitution(draft.yaml("x"), Path("x.yaml")).principles[0]
    assert principle.text == text.strip() and principle.critique_request == text
