"""Results files of lm-evaluation-harness: what becomes of them, and what is refused.

`FILE` has the shape of what lm_eval writes: metrics with their filter behind a comma, `N/A` where no standard error
exists, a group with its tasks.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.gate import decide
from evaluation.harness import harness_figures, read_harness
from evaluation.intervals import EvidenceError, wilson
from evaluation.paired_shares import tango
from evaluation.report import Evidence
from evaluation.summary import summarise
from evaluation.terminal import plain_text
from ratify.errors import InputError
from tests.evaluation.test_gate import SECTION, report_of, why

FILE: dict[str, Any] = {
    "results": {
        "choices": {"alias": "choices", "acc,none": 0.6, "acc_stderr,none": 0.049237, "acc_norm,none": 0.7,
                    "acc_norm_stderr,none": 0.046},
        "sums": {"alias": "sums", "exact_match,strict": 0.2, "exact_match_stderr,strict": "N/A",
                 "exact_match,loose": 0.3, "exact_match_stderr,loose": 0.01},
        "group": {"alias": "group", "acc,none": 0.5, "acc_stderr,none": 0.05},
        "part": {"alias": " - part", "acc,none": 0.1, "acc_stderr,none": 0.1},
        "rest": {"alias": " - rest", "acc,none": 0.9, "acc_stderr,none": 0.1},
    },
    "group_subtasks": {"group": ["part", "rest"], "choices": [], "sums": []},
    "versions": {"choices": 1.0, "sums": 3.0, "group": 2, "part": 1, "rest": 1},
    "n-samples": {
        "choices": {"original": 500, "effective": 100}, "sums": {"original": 40, "effective": 40},
        "part": {"original": 50, "effective": 50}, "rest": {"original": 30, "effective": 30},
    },
}  # fmt: skip


def written(folder: Path, content: Any = FILE, name: str = "results_2026-01-02T03-04-05.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def changed(task: str, **figures: Any) -> dict[str, Any]:
    content = json.loads(json.dumps(FILE))
    content["results"][task] |= {key.replace("__", ","): value for key, value in figures.items()}
    return content


def samples(folder: Path, task: str, right: list[float], **changes: Any) -> Path:
    """Documents as lm_eval logs them, beside the results file of the same date; another filter's are among them."""
    rows = [
        {"doc_id": k, "doc": {"q": k}, "filter": chosen, "doc_hash": f"h{k}", "acc": value, **changes}
        for k, value in enumerate(right) for chosen, value in (("none", value), ("other", 0.0))
    ]  # fmt: skip
    path = folder / f"samples_{task}_2026-01-02T03-04-05.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_task_has_its_first_share_its_filter_and_its_items(tmp_path: Path) -> None:
    found = read_harness(written(tmp_path))
    assert list(found) == ["choices", "sums", "group"], "parts of a group are spoken for"
    assert (found["choices"].metric, found["choices"].value, found["choices"].items) == ("acc,none", 0.6, 100)
    assert (found["sums"].metric, found["sums"].stderr) == ("exact_match,strict", None)
    assert (found["group"].items, found["group"].version) == (80, "2")


def test_the_newest_file_under_a_folder_is_read(tmp_path: Path) -> None:
    written(tmp_path / "model", changed("choices", acc__none=0.1), "results_2026-01-01T00-00-00.json")
    written(tmp_path / "model")
    assert read_harness(tmp_path)["choices"].value == 0.6


def test_intervals_are_wilsons_on_the_items_that_the_standard_error_amounts_to(tmp_path: Path) -> None:
    """0.6 · 0.4 / 0.049237² = 99 of 100 items; a group's 0.25 / 0.05² = 100 are at most its 80; all right is no 0."""
    task = read_harness(written(tmp_path))
    perfect = read_harness(written(tmp_path, changed("choices", acc__none=1.0, acc_stderr__none=0.0)))
    found = harness_figures(task, perfect)
    old = found["choices"].old
    assert old.clusters == 99 and (old.low, old.high) == pytest.approx(wilson(0.6 * 99, 99), abs=1e-4)
    assert found["group"].new.clusters == 80
    assert (found["choices"].new.low, found["choices"].new.high) == wilson(100, 100)
    change = found["choices"].difference
    below = math.hypot(1 - (found["choices"].new.low or 0), (old.high or 0) - 0.6)
    assert change.value == pytest.approx(0.4) and change.low == pytest.approx(0.4 - below)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read as JSON"),
        ([], 'have no "results"'),
        ({"results": {}}, 'have no "results"'),
        (changed("choices", acc__none="high"), "no share from 0 to 1"),
        (changed("choices", acc__none=12.5), "no share from 0 to 1"),
        ({"results": {"wiki": {"word_perplexity,none": 12.0}}}, "none of the shares"),
        ({"results": {"choices": {"acc,none": 0.5}}}, "number of items"),
        (changed("choices", acc__none=math.nan), "no share from 0 to 1"),
        (changed("choices", acc__none=True), "no share from 0 to 1"),
        (changed("choices", acc_stderr__none=math.nan), "standard error of nan"),
        ({"results": [1]}, "no JSON object"),
        ({"results": {"choices": 0.5}}, "no JSON object"),
        ({**FILE, "n-samples": {"choices": {"effective": "many"}}}, "number of items"),
        ({**FILE, "n-samples": 5}, "no JSON object"),
        ({**FILE, "n-samples": {**FILE["n-samples"], "rest": {}}}, "number of items of task group"),
    ],
)
def test_what_is_no_results_file_is_named(tmp_path: Path, content: Any, told: str) -> None:
    path = written(tmp_path, content)
    if content == "{":
        path.write_text("{")
    with pytest.raises(InputError) as fault:
        read_harness(path)
    assert told in str(fault.value) and str(path) in str(fault.value)


def test_an_absent_file_or_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not exist"):
        read_harness(tmp_path / "results_1.json")
    with pytest.raises(InputError, match="no results_"):
        read_harness(tmp_path)


def test_sides_that_cannot_be_compared_have_no_figure(tmp_path: Path) -> None:
    task = read_harness(written(tmp_path))
    with pytest.raises(EvidenceError, match="task sums was run for one"):
        harness_figures(task, {name: each for name, each in task.items() if name != "sums"})
    with pytest.raises(EvidenceError, match="another version on each side: 1.0 and 2.0"):
        harness_figures(task, {**task, "choices": task["choices"]._replace(version="2.0")})
    with pytest.raises(EvidenceError, match="another items on each side"):
        harness_figures(task, {**task, "choices": task["choices"]._replace(items=5)})


def test_the_report_holds_tasks_and_the_gate_their_loss(tmp_path: Path, evidence: Evidence) -> None:
    old = read_harness(written(tmp_path))
    new = read_harness(written(tmp_path, changed("choices", acc__none=0.2, acc_stderr__none=0.04)))
    report = summarise(replace(evidence, harness=(old, new)))
    assert report.metrics["evaluate/harness.choices/difference"].value == pytest.approx(-0.4)
    section = SECTION.model_copy(update={"margins": {**SECTION.margins, "harness": 0.05}})
    figures = {key: found for key, found in report.metrics.items() if key.startswith("evaluate/harness")}
    verdict = decide(report_of(figures), section)
    assert verdict.decision == "REJECT" and why(verdict)[0] == ("non-inferiority", "evaluate/harness.choices/new")
    unlike = summarise(replace(evidence, harness=(old, {})))
    assert "run for one of the two" in unlike.missing["harness"]
    gate = decide(report_of().model_copy(update={"missing": unlike.missing}), section)
    assert gate.decision == "INSUFFICIENT" and "run for one of the two" in gate.deciding[0].text
    assert "harness" not in summarise(evidence).missing


def sides(tmp_path: Path, old: list[float], new: list[float]) -> tuple[Any, Any]:
    """Both policies' results and samples of a task of 100 documents."""
    for name, right in (("old", old), ("new", new)):
        written(tmp_path / name, changed("choices", acc__none=sum(right) / len(right)))
        samples(tmp_path / name, "choices", right)
    return read_harness(tmp_path / "old"), read_harness(tmp_path / "new")


def test_samples_pair_the_change_document_by_document(tmp_path: Path) -> None:
    """Of 100 documents 60 stay right, 4 are lost and 1 is gained: -3 points, and Tango's interval of these counts."""
    old, new = sides(tmp_path, [1.0] * 64 + [0.0] * 36, [1.0] * 60 + [0.0] * 4 + [1.0] + [0.0] * 35)
    found = harness_figures(old, new)
    change = found["choices"].difference
    assert change.value == pytest.approx(-0.03) and (change.low, change.high) == tango(1, 4, 100)
    alone = {name: task._replace(documents=()) for name, task in new.items()}
    wide = harness_figures(old, alone)["choices"].difference
    assert wide.value == pytest.approx(-0.03) and (wide.low or 0) < -0.13 < (change.low or 0), "one side's are no pair"
    assert found["sums"].difference == harness_figures(old, alone)["sums"].difference


def test_equal_answers_are_shown_equal_only_where_they_are_paired(tmp_path: Path) -> None:
    old, new = sides(tmp_path, [1.0, 0.0] * 50, [1.0, 0.0] * 50)
    margins = {"harness.choices": 0.05}
    for documents, decision in ((True, "PROMOTE"), (False, "HOLD")):
        theirs, ours = (
            {"choices": side["choices"] if documents else side["choices"]._replace(documents=())} for side in (old, new)
        )
        found = harness_figures(theirs, ours)["choices"]._asdict()
        report = report_of({f"evaluate/harness.choices/{stat}": each for stat, each in found.items()})
        section = SECTION.model_copy(update={"margins": {**SECTION.margins, **margins}})
        assert decide(report, section).decision == decision


def test_other_documents_on_the_two_sides_have_no_figure(tmp_path: Path) -> None:
    old, new = sides(tmp_path, [1.0] * 100, [1.0] * 100)
    task = new["choices"]
    swapped = task._replace(documents=(*task.documents[:-1], task.documents[-1]._replace(content="another")))
    with pytest.raises(EvidenceError, match="document 99 of task choices is another one"):
        harness_figures(old, {**new, "choices": swapped})
    fewer = task._replace(documents=(*task.documents[:-1], task.documents[-1]._replace(id="100")))
    with pytest.raises(EvidenceError, match="asked other documents of task choices"):
        harness_figures(old, {**new, "choices": fewer})


@pytest.mark.parametrize(
    ("right", "line", "told"),
    [
        ([1.0] * 60 + [0.0] * 39, "", "hold 99 documents, and the results beside them 100"),
        ([1.0] * 61 + [0.0] * 39, "", "are right on 0.6100 of the documents, and the results beside them say 0.6000"),
        ([1.0] * 60 + [0.0] * 39 + [math.nan], "", ':199: "acc" is nan'),
        ([1.0] * 60 + [0.0] * 40, "{", ":201: not valid JSON"),
        ([1.0] * 60 + [0.0] * 40, "[]", ":201: a line is a JSON object"),
        ([1.0] * 60 + [0.0] * 40, '{"doc_id": 3, "filter": "none", "acc": 1.0}', ":201: repeats document 3"),
    ],
)
def test_samples_of_another_run_or_broken_ones_are_named(
    tmp_path: Path, right: list[float], line: str, told: str
) -> None:
    written(tmp_path)
    path = samples(tmp_path, "choices", right)
    path.write_text(path.read_text() + line + "\n" * bool(line))
    with pytest.raises(InputError) as fault:
        read_harness(tmp_path)
    assert told in str(fault.value) and str(path) in str(fault.value)


def test_figures_that_are_no_yes_or_no_stay_unpaired(tmp_path: Path) -> None:
    written(tmp_path)
    samples(tmp_path, "choices", [0.6] * 100)
    assert read_harness(tmp_path)["choices"].documents == ()
    samples(tmp_path, "choices", [1.0] * 60 + [0.0] * 40, acc=[1.0, 2.0])
    assert read_harness(tmp_path)["choices"].documents == ()


def test_a_lost_task_is_told_and_shown(tmp_path: Path, evidence: Evidence) -> None:
    old, new = sides(tmp_path, [1.0] * 64 + [0.0] * 36, [1.0] * 20 + [0.0] * 80)
    report = summarise(replace(evidence, harness=(old, new)))
    assert any("task choices fell: 20" in warning for warning in report.warnings)
    assert "Harness: choices" in plain_text(report) and "Harness: sums" in plain_text(report)
