"""The commands of `ratify constitution`: what they print, write and return; tests of principles and their outcomes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result
from typer.testing import CliRunner

from constitutions.load import load_constitution, parse_constitution
from flows.constitution_cli import constitution_app
from flows.constitution_trials import TrialRecord, ask_trials, judge_trials, trial_key, trials_of
from judges.rules_judge import RulesJudge
from ratify.errors import InputError, RatifyError
from ratify.lineage import ROOT
from tests.judges.fake_server import FakeServer

Run = Callable[..., Result]
GENERAL = ROOT / "constitutions" / "helpful-honest-harmless.yaml"
ONE = """schema: constitution/v1
id: x
version: 1.0.0
judge_defaults: {tie_band: 0.05}
principles:
  - id: p
    text: The reply is kind.
    tests: [{prompt: Hello, a: Hello!, b: Go away., expect: a, min_p: 0.7}]
"""


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(constitution_app, [str(each) for each in arguments])

    return invoke


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "one.yaml"
    path.write_text(ONE)
    return path


def test_new_lints_clean_and_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "My Rules.yaml"
    assert run("new", path).exit_code == 0
    assert load_constitution(path).id == "my-rules"
    linted = run("lint", path)
    assert linted.exit_code == 0 and linted.output == "nothing found\n"
    again = run("new", path)
    assert isinstance(again.exception, InputError) and "is there already" in str(again.exception)


def test_lint_ends_with_1_and_one_line_each(run: Run, one: Path) -> None:
    one.write_text(ONE.replace("is kind", "is good"))
    said = run("lint", one)
    assert said.exit_code == 1
    assert f"{one}:7: vague-word: " in said.output and said.output.endswith("1 finding(s) in 1 file(s)\n")
    (row,) = json.loads(run("lint", one, "--json").output)
    assert (row["line"], row["code"]) == (7, "vague-word")
    assert f"{one}:3: low-version: version 1.0.0 is below 2.0.0" in run("lint", one, "--against", GENERAL).output


def test_lint_sees_what_surrounds_a_constitution(run: Run) -> None:
    config = ROOT / "configs" / "demo.toml"
    said = run("lint", ROOT / "constitutions" / "demo.yaml", "--config", config)
    assert "judge-family" in said.output or said.output == "nothing found\n"


def test_diff_prints_costs_and_refuses_a_low_version(run: Run, one: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(ONE.replace("is kind", "is gentle").replace("1.0.0", "1.1.0"))
    said = run("diff", one, new)
    assert said.exit_code == 0
    assert "~ p.text: The reply is kind. -> The reply is gentle." in said.output
    assert "judged again: p" in said.output and "computed: minor, least: 1.1.0" in said.output
    new.write_text(ONE.replace("is kind", "is gentle"))
    assert "version 1.0.0 is below 1.1.0" in str(run("diff", one, new).exception)
    assert json.loads(run("diff", one, new, "--json").stdout)["rejudged"] == ["p"]


def test_show_names_every_principle(run: Run) -> None:
    rows = json.loads(run("show", GENERAL, "--json").output)["principles"]
    assert [row["id"] for row in rows] == [each.id for each in load_constitution(GENERAL).principles]
    assert run("show", GENERAL).exit_code == 0


def test_import_writes_the_file_and_says_what_it_left_out(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "spec.yaml"
    said = run("import", ROOT / "tests" / "constitutions" / "imported" / "spec.md", "--out", out)
    assert said.exit_code == 0 and load_constitution(out).id == "spec"
    assert f"{out}: 2 principles, 2 tests; 5 notes, " in said.output
    assert "section 'Overview' is not imported" in said.output


def test_an_import_that_fails_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    said = run("import", tmp_path / "bad.json", "--out", tmp_path / "out.yaml")
    assert isinstance(said.exception, RatifyError) and list(tmp_path.iterdir()) == [tmp_path / "bad.json"]


def test_export_and_schema_print(run: Run, one: Path) -> None:
    assert run("export", one).output.startswith("# x 1.0.0\n")
    assert json.loads(run("export", one, "--format", "json").output)["id"] == "x"
    assert "known formats: json, markdown" in str(run("export", one, "--format", "pdf").exception)
    assert json.loads(run("schema").output)["title"] == "Ratify constitution"


@pytest.mark.parametrize(
    ("a", "b", "protocol", "outcome"),
    [
        (2.0, -2.0, "pairwise", "passed"),
        (0.5, -0.5, "pairwise", "failed"),  # 0.62 is below min_p
        (-2.0, 2.0, "pairwise", "failed"),
        (2.0, 2.0, "pairwise", "order-unstable"),  # whichever is shown first wins
        (-2.0, -2.0, "pairwise", "order-unstable"),
        (2.0, -0.1, "pairwise", "passed"),  # a tie in one order does not contradict
        (2.0, 0.0, "pointwise", "passed"),
        (2.0, 2.0, "pointwise", "failed"),
        (None, 1.0, "pairwise", "unanswered"),
    ],
)
def test_outcomes(a: float | None, b: float | None, protocol: str, outcome: str) -> None:
    constitution = parse_constitution(ONE, Path("x.yaml"))
    (trial,) = trials_of(constitution)
    record = TrialRecord(key=trial_key(trial, protocol), name="p/1", judge="j", protocol=protocol, a=a, b=b)
    assert judge_trials([trial], [record], constitution)[0].outcome == outcome


def test_a_tie_is_expected_within_the_tie_band() -> None:
    constitution = parse_constitution(ONE.replace("expect: a, min_p: 0.7", "expect: tie"), Path("x.yaml"))
    (trial,) = trials_of(constitution)
    record = TrialRecord(key=trial_key(trial, "pairwise"), name="p/1", judge="j", protocol="pairwise", a=0.1, b=-0.1)
    assert judge_trials([trial], [record], constitution)[0].outcome == "passed"


def test_an_edited_text_is_unrecorded_and_a_new_expectation_is_not() -> None:
    constitution = parse_constitution(ONE, Path("x.yaml"))
    record = TrialRecord(
        key=trial_key(trials_of(constitution)[0], "pairwise"), name="p/1", judge="j", protocol="pairwise", a=2.0, b=-2.0
    )
    for edit, outcome in ((("is kind", "is gentle"), "unrecorded"), (("expect: a", "expect: b"), "failed")):
        edited = parse_constitution(ONE.replace(*edit), Path("x.yaml"))
        assert judge_trials(trials_of(edited), [record], edited)[0].outcome == outcome


def test_a_judge_of_checks_is_asked_whatever_the_scope() -> None:
    constitution = load_constitution(GENERAL)
    results = judge_trials(trials_of(constitution), ask_trials(trials_of(constitution), RulesJudge()), constitution)
    outcomes = {result.trial.name: result.outcome for result in results}
    assert outcomes["harm.no-doxxing/1"] == "passed" and outcomes["truth.no-invention/1"] == "abstained"


def first_place(text: str) -> dict[str, float]:
    """A judge that prefers whatever is shown first."""
    return {"A": -0.1, "B": -2.4} if "Reply A:" in text else {"Yes": -0.1, "No": -2.4}


def test_a_judge_that_looks_at_places_is_order_unstable_and_its_record_needs_no_server(
    run: Run, one: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.jsonl"
    with FakeServer(first_place) as server:
        keys = {"judge.base_url": server.url, "judge.model": "fake", "judge.protocol": "pairwise", "run.dir": tmp_path}
        options = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        said = run("test", one, "--config", ROOT / "configs" / "demo.toml", *options, "--record", answers)
        assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
        assert server.requests == 2, "both orders, once each"
    assert said.output.startswith("order-unstable p/1: P(a) is 0.91 with a shown first and 0.09 with b shown first")
    assert run("test", one, "--recorded", answers).output == said.output


def test_a_dead_server_is_one_sentence(run: Run, one: Path) -> None:
    options = ("--set", "judge.base_url=http://127.0.0.1:9/v1", "--set", "judge.model=x")
    said = run("test", one, "--config", ROOT / "configs" / "demo.toml", *options)
    assert isinstance(said.exception, RatifyError) and "no server answers at" in str(said.exception)


def test_recorded_answers_give_the_same_results_and_junit(run: Run, tmp_path: Path) -> None:
    answers, junit = tmp_path / "answers.jsonl", tmp_path / "results.xml"
    asked = run("test", GENERAL, "--rules", "--record", answers)
    replayed = run("test", GENERAL, "--recorded", answers, "--junit", junit)
    assert asked.output == replayed.output and asked.exit_code == replayed.exit_code == 1
    suite = ElementTree.parse(junit).getroot()
    counts = (
        len(suite.findall("testcase")),
        len(suite.findall("testcase/failure")),
        len(suite.findall("testcase/skipped")),
    )
    assert counts == tuple(int(suite.attrib[name]) for name in ("tests", "failures", "skipped"))
    answers.write_text("{}\n")
    assert "answers.jsonl:1: not a recorded answer" in str(run("test", GENERAL, "--recorded", answers).exception)
    assert "say who judges" in str(run("test", GENERAL).exception)


def test_help_imports_no_yaml_and_no_torch() -> None:
    script = (
        "import sys, flows.constitution_cli; print([m for m in ('torch','numpy','ruamel.yaml') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
