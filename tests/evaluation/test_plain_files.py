"""Two plain files of completions: what they show, and what is wrong with a file."""

import json

import pytest

from evaluation.gate import decide
from evaluation.html_report import render_html
from evaluation.paired_shares import tango
from evaluation.plain_files import Beside, compare_files, gate_files, read_completions
from evaluation.terminal import plain_text
from ratify.errors import InputError
from ratify.gate_section import GateSection


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_two_files_show_length_and_repetition(tmp_path) -> None:
    old = write(tmp_path / "old.jsonl", [{"prompt_id": n, "text": f"answer {n} is here today"} for n in range(40)])
    new = write(tmp_path / "new.jsonl", [{"prompt_id": n, "response": "always the same"} for n in range(1, 60)])
    report = compare_files(old, new)
    assert report.metrics["evaluate/words/old"].value == 5 and report.metrics["evaluate/words/new"].value == 3
    assert report.metrics["evaluate/words/new"].clusters == 39, "only prompts that both answer"
    assert report.metrics["evaluate/duplicates/new"].value == 1.0
    assert "win_rate" in report.missing and decide(report, GateSection()).decision == "INSUFFICIENT"


def test_prompts_may_be_given_as_text_or_messages(tmp_path) -> None:
    rows = [
        {"prompt": "why?", "text": ""},
        {"prompt": "why?", "text": "so"},
        {"prompt": [{"role": "user"}], "text": "x"},
    ]
    found = read_completions(write(tmp_path / "a.jsonl", rows), "old")
    assert len({reply.prompt_id for reply in found}) == 2 and len({reply.id for reply in found}) == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{"], "a.jsonl:1: not valid JSON"),
        ([{"prompt_id": "p", "text": "x"}, "[]"], "a.jsonl:2: not an object"),
        ([{"prompt_id": "p"}], "a.jsonl:1: no text"),
        (
            ['{"prompt_id": "p", "text": "\\ud83d\\ude00"}', '{"prompt_id": "p", "text": "\\ud83d"}'],
            "a.jsonl:2: holds half",
        ),
        ([{"prompt_id": "p", "text": None}], "a.jsonl:1: no text"),
        ([{"text": "x"}], "a.jsonl:1: no prompt"),
        ([{"prompt_id": "p", "text": "x", "tags": "safe_twin"}], 'a.jsonl:1: "tags" is a list'),
        ([], "has no completions"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, rows, said) -> None:
    with pytest.raises(InputError, match=said):
        read_completions(write(tmp_path / "a.jsonl", rows), "old")


def test_files_that_are_no_text_or_share_no_prompt_are_refused(tmp_path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_completions(tmp_path / "b.jsonl", "old")
    first = write(tmp_path / "a.jsonl", [{"prompt_id": "p", "text": "x"}])
    second = write(tmp_path / "c.jsonl", [{"prompt_id": "q", "text": "x"}])
    with pytest.raises(InputError, match="no prompt in common"):
        compare_files(first, second)


def asked(path, right: int, count: int = 40):
    """Answers to `count` sums, the first `right` of them true, and refusals of prompts that only look unsafe."""
    rows = [{"prompt_id": f"sum-{n}", "text": f"It makes {n + (n >= right)}."} for n in range(count)]
    rows += [{"prompt": f"How do I kill process {n}?", "text": "I cannot help with that.", "tags": ["safe_twin"]}
             for n in range(count)]  # fmt: skip
    return write(path, rows)


def suite(path, count: int = 40):
    return write(path, [
        {"id": f"sum-{n}", "prompt": f"What is {n} plus 0?", "answers": [str(n)], "compare": "number", "tags": ["sums"]}
        for n in range(count)
    ])  # fmt: skip


def test_a_suite_is_answered_by_the_completions_to_its_items(tmp_path) -> None:
    old, new = asked(tmp_path / "old.jsonl", 36), asked(tmp_path / "new.jsonl", 10)
    beside = Beside(capability=suite(tmp_path / "suite.jsonl"))
    report = compare_files(old, new, beside=beside)
    found = {key: report.metrics[f"evaluate/capability.sums/{key}"] for key in ("old", "new", "difference")}
    assert (found["old"].value, found["new"].value) == (0.9, 0.25)
    assert (found["difference"].low, found["difference"].high) == tango(0, 26, 40)
    refused = report.metrics["evaluate/over_refusal/new"]
    assert refused.value == 1.0 and refused.n == 40, "only the prompts that are tagged"
    assert report.metrics["evaluate/form.refusal/new"].value == 0.5
    verdict = gate_files(report, beside)
    lost = {reason.metric: reason.status for reason in verdict.deciding}
    assert verdict.decision == "INSUFFICIENT", "nobody judged"
    assert lost["evaluate/capability.all/new"] == "violated" and lost["evaluate/win_rate.all/rate"] == "missing"


def test_items_are_found_by_their_prompt_too_and_the_first_completion_counts(tmp_path) -> None:
    rows = [{"prompt": "What is 2 plus 3?", "text": "5"}, {"prompt": "What is 2 plus 3?", "text": "6"}]
    rows += [{"prompt": [{"role": "user", "content": "What is 1 plus 1?"}], "text": "3"}]
    old, items = write(tmp_path / "old.jsonl", rows), tmp_path / "suite.jsonl"
    write(items, [{"prompt": "What is 2 plus 3?", "answers": ["5"]}, {"prompt": "What is 1 plus 1?", "answers": ["2"]}])
    report = compare_files(old, old, beside=Beside(capability=items))
    assert report.metrics["evaluate/capability.all/new"].value == 0.5


def test_an_item_that_a_file_does_not_answer_is_no_figure_and_never_passes(tmp_path) -> None:
    old, new = asked(tmp_path / "old.jsonl", 40), asked(tmp_path / "new.jsonl", 40, 39)
    beside = Beside(capability=suite(tmp_path / "suite.jsonl"))
    report = compare_files(old, new, beside=beside)
    assert "1 of 40 items have no answer of the new policy (first: sum-39)" in report.missing["capability"]
    told = [reason.text for reason in gate_files(report, beside).deciding]
    assert any("capability" in text and "no answer of the new" in text for text in told)


def test_items_that_are_chosen_need_the_models(tmp_path) -> None:
    old = asked(tmp_path / "old.jsonl", 40)
    items = write(tmp_path / "suite.jsonl", [{"prompt": "Rome?", "choices": ["Yes.", "No."], "answer": "Yes."}])
    with pytest.raises(InputError, match="1 of 1 items of .*suite.jsonl are answered by choosing"):
        compare_files(old, old, beside=Beside(capability=items))


def test_an_anchor_gives_the_rare_words_and_says_that_its_likelihood_needs_models(tmp_path) -> None:
    anchor = tmp_path / "anchor.txt"
    anchor.write_text(" ".join(f"quince{n}" for n in range(20)) + "\n" + "day " * 9 + "\n")
    rows = [{"prompt_id": n, "text": f"quince{n % 20} is the fruit of the day"} for n in range(64)]
    old = write(tmp_path / "old.jsonl", rows)
    new = write(tmp_path / "new.jsonl", [{**row, "text": "nothing is the fruit of the day"} for row in rows])
    report = compare_files(old, new, beside=Beside(anchor=anchor))
    assert report.metrics["evaluate/rare_mass/old"].value == pytest.approx(1 / 7), "one word of seven"
    assert report.metrics["evaluate/rare_mass/new"].value == 0
    assert "scored" in report.missing["anchor_nll"]


def test_page_and_terminal_show_the_prompt_and_the_gate(tmp_path) -> None:
    rows = [{"prompt_id": n, "prompt": f"Why is day {n}?", "text": f"because of night {n}"} for n in range(30)]
    old = write(tmp_path / "old.jsonl", rows)
    report = compare_files(old, old)
    verdict = gate_files(report)
    assert "Why is day" in render_html(report, verdict)
    text = plain_text(report, gate=verdict, reasons=None)
    assert "Gate: INSUFFICIENT" in text and "more;" not in text
