"""`ratify gate`, `promote` and `rollback` on a run whose evaluation is known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.intervals import Estimate
from evaluation.report import ConstitutionText, EvaluationReport, RunIdentity, write_report
from flows.stages.gate import Approval, promote, refuse, refused
from ratify.canonical import model_digest
from ratify.config import load_config, resolved_json
from ratify.errors import GateError
from ratify.lineage import ROOT
from ratify.run_store import RunStore

PAIRS = {
    "distinct_2": (0.4, 0.39), "distinct_4": (0.6, 0.6), "duplicates": (0.1, 0.1), "truncated": (0.01, 0.01),
    "words": (50.0, 52.0), "compliance.all": (0.5, 0.6),
}  # fmt: skip


def figure(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.02, high=value + 0.02, n=800, clusters=400, confidence=0.95)


class MadeRun:
    """A run with a first policy and an evaluated new one; `evaluate` writes another evaluation."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run"
        self.first = folder / "first"
        self.model = self.path / "round-000" / "policy" / "model"
        self.train(self.first, "first")
        self.train(self.model, "second")
        self.configure()
        self.evaluate()

    def configure(self, *overrides: str) -> None:
        place = [f"run.dir={self.path.parent}", "run.name=run"]
        config = load_config(ROOT / "configs" / "demo.toml", [*place, *overrides])
        (self.path / "config.json").write_text(resolved_json(config))

    def train(self, folder: Path, weights: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
        (folder / "config.json").write_text(json.dumps({"weights": weights}))

    def evaluate(self, win_rate: float = 0.6, judge: str = "judge-1", old: Path | None = None, number: int = 0) -> None:
        metrics = {f"evaluate/{thing}/{stat}": figure(value) for thing, both in PAIRS.items()
                   for stat, value in zip(("old", "new"), both, strict=True)}  # fmt: skip
        metrics |= {
            "evaluate/win_rate.all/rate": figure(win_rate),
            "evaluate/win_rate_length_controlled/rate": figure(win_rate),
            "evaluate/kl/k3_per_reply": figure(2.0), "evaluate/compliance.all/difference": figure(0.1),
        }  # fmt: skip
        old = old or self.first
        report = EvaluationReport(
            conclusion=("It is better.",), metrics=metrics, counts={"evaluate/win_rate.all/wins": 500},
            identity=RunIdentity(run="run", round=number, judge=judge, models={
                "old": f"{old} ({model_digest(old)[:12]})", "new": f"{self.model} ({model_digest(self.model)[:12]})",
            }),
            constitution=ConstitutionText(id="c", version="1", hash="cafe", principles=()),
        )  # fmt: skip
        stage = RunStore(self.path).stage("evaluate", number)
        stage.begin({"win_rate": win_rate, "judge": judge})
        write_report(stage.path / "report.json", report)
        stage.finish({"win_rate": win_rate, "judge": judge}, {}, 1.0)

    @property
    def promoted(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "promoted.json").read_text())
        return found

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "promotions.jsonl").read_text().splitlines()]


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path)


Ratify = Callable[..., Any]


def test_a_good_policy_is_promoted_and_can_be_rolled_back(made: MadeRun, ratify: Ratify) -> None:
    said = ratify("gate", str(made.path))
    assert said.code == 0 and "Gate: PROMOTE" in said.out and "attempt 1" in said.out
    assert made.promoted["policy"]["digest"] == model_digest(made.first)
    said = ratify("promote", str(made.path))
    assert said.code == 0, said.err
    assert made.promoted["policy"]["digest"] == model_digest(made.model)
    assert made.promoted["decision"] == "PROMOTE" and not made.promoted["override"]
    assert made.promoted["lineage"][0]["digest"] == model_digest(made.first)
    assert ratify("gate", str(made.path)).code == 0, "the same evidence has the same verdict afterwards"
    assert ratify("promote", str(made.path)).err.endswith("is promoted already\n")
    before = (made.path / "promotions.jsonl").read_text()
    said = ratify("rollback", str(made.path), "--reason", "users complain")
    assert said.code == 0 and made.promoted["policy"]["digest"] == model_digest(made.first)
    assert (made.path / "promotions.jsonl").read_text().startswith(before)
    assert made.history[-1]["reason"] == "users complain"
    assert ratify("rollback", str(made.path)).code == 3, "the first policy has no parent"
    said = ratify("promote", str(made.path))
    assert said.code == 10 and "was rolled back" in said.err and "users complain" in said.err
    assert ratify("promote", str(made.path), "--override", "fixed elsewhere").code == 0


def test_hold_promotes_only_with_a_logged_reason(made: MadeRun, ratify: Ratify) -> None:
    made.evaluate(win_rate=0.5)
    said = ratify("gate", str(made.path))
    assert said.code == 10 and "Gate: HOLD" in said.out and "50.0" in said.out
    said = ratify("promote", str(made.path))
    assert said.code == 10 and "the gate says HOLD" in said.err and said.err.count("\n") == 1
    assert made.promoted["policy"]["digest"] == model_digest(made.first)
    assert ratify("promote", str(made.path), "--override", " ").code == 3
    assert ratify("promote", str(made.path), "--override", "for the pilot").code == 0
    assert made.promoted["override"] == "for the pilot" and made.promoted["decision"] == "HOLD"
    assert made.history[-1]["override"] == "for the pilot"


def test_where_a_person_must_agree_nothing_moves_without_name_and_reason(made: MadeRun, ratify: Ratify) -> None:
    made.configure("gate.require_approval=true")
    run = str(made.path)
    assert ratify("gate", run).code == 0
    said = ratify("promote", run)
    assert said.code == 10 and "gate.require_approval asks a person" in said.err and said.err.count("\n") == 1
    assert ratify("promote", run, "--override", "hurry").code == 10, "an override is a person's, too"
    assert ratify("promote", run, "--by", "Ada").code == 3, "without a reason"
    assert ratify("promote", run, "--by", " ", "--reason", "good").code == 3
    assert made.promoted["policy"]["digest"] == model_digest(made.first)
    assert ratify("promote", run, "--by", "Ada", "--reason", "read 50 replies").code == 0
    last = made.history[-1]
    assert (last["kind"], last["person"], last["reason"]) == ("promotion", "Ada", "read 50 replies") and last["time"]
    assert made.promoted["policy"]["digest"] == model_digest(made.model)


def test_a_refusal_is_remembered_and_moves_nothing(made: MadeRun, ratify: Ratify) -> None:
    made.configure("gate.require_approval=true")
    evidence = json.loads(ratify("gate", str(made.path), "--json").out)["evidence"]
    refuse(made.path, Approval("Bo", "too curt", evidence))
    found = refused(made.path, evidence)
    assert found and (found.person, found.reason) == ("Bo", "too curt") and refused(made.path, "other") is None
    assert made.promoted["policy"]["digest"] == model_digest(made.first)


def test_an_approval_counts_for_the_figures_that_were_shown(made: MadeRun, ratify: Ratify) -> None:
    made.configure("gate.require_approval=true")
    evidence = json.loads(ratify("gate", str(made.path), "--json").out)["evidence"]
    made.evaluate(win_rate=0.61)
    with pytest.raises(GateError, match="the newest is now"):
        promote(made.path, None, Approval("Ada", "good", evidence))
    assert made.promoted["policy"]["digest"] == model_digest(made.first)


def test_every_new_evaluation_is_an_attempt_and_the_same_one_is_not(made: MadeRun, ratify: Ratify) -> None:
    for win_rate, attempt in ((0.5, 1), (0.5, 1), (0.51, 2), (0.515, 3), (0.5, 1)):
        made.evaluate(win_rate=win_rate)
        verdict = json.loads(ratify("gate", str(made.path), "--json").out)
        assert verdict["standing"]["attempt"] == attempt
    assert [event["kind"] for event in made.history] == ["epoch", "attempt", "attempt", "attempt"]


def test_a_new_judge_needs_a_new_epoch(made: MadeRun, ratify: Ratify) -> None:
    assert ratify("gate", str(made.path)).code == 0
    made.evaluate(judge="judge-2")
    said = ratify("gate", str(made.path))
    assert said.code == 10 and "Gate: INSUFFICIENT" in said.out and "--new-epoch" in said.out
    assert ratify("gate", str(made.path), "--new-epoch", "a better judge").code == 0
    assert made.history[-1]["kind"] == "attempt" or made.history[-1]["reason"] == "a better judge"
    assert made.promoted["policy"]["digest"] == model_digest(made.first)


def test_a_later_round_is_held_against_parent_and_first(made: MadeRun, ratify: Ratify) -> None:
    assert ratify("promote", str(made.path)).code == 0
    parent = Path(made.promoted["policy"]["model"])
    made.train(made.model, "stale")
    made.evaluate(win_rate=0.61)
    said = ratify("promote", str(made.path))
    assert said.code == 10 and "is the promoted one" in said.err
    made.evaluate(win_rate=0.62, old=parent)
    said = ratify("gate", str(made.path))
    assert said.code == 0 and "against the first policy" in said.out and "attempt 2" in said.out
    assert ratify("promote", str(made.path)).code == 0
    assert len(made.promoted["lineage"]) == 2


def test_weights_that_changed_after_the_evaluation_are_not_promoted(made: MadeRun, ratify: Ratify) -> None:
    made.train(made.model, "other")
    said = ratify("promote", str(made.path), "--override", "hurry")
    assert said.code == 3 and "not the policy that was evaluated" in said.err and said.err.count("\n") == 1
    assert [event["kind"] for event in made.history] == ["epoch", "attempt"]


def test_a_run_without_evaluation_is_one_sentence(tmp_path: Path, ratify: Ratify) -> None:
    (tmp_path / "empty" / "round-000").mkdir(parents=True)
    said = ratify("gate", str(tmp_path / "empty"))
    assert said.code == 6 and "no finished evaluation" in said.err and said.err.count("\n") == 1


def test_two_plain_files_are_compared_without_a_run(tmp_path: Path, ratify: Ratify) -> None:
    for name, text in (("old", "reply number {} of the old"), ("new", "the same")):
        rows = [json.dumps({"prompt_id": n, "text": text.format(n)}) for n in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    files = ["--old", str(tmp_path / "old.jsonl"), "--new", str(tmp_path / "new.jsonl")]
    said = ratify("evaluate", *files, "--out", str(tmp_path / "out"))
    assert said.code == 0 and "30 prompts that both answer" in said.out and "100.0" in said.out
    assert (tmp_path / "out" / "report.json").exists() and (tmp_path / "out" / "report.html").exists()
    assert "Gate: INSUFFICIENT" in said.out and '"decision": "INSUFFICIENT"' in (tmp_path / "out/gate.json").read_text()
    assert ratify("evaluate", *files[:2]).code == 2 and ratify("evaluate").code == 2


def test_files_beside_two_plain_files_are_measured_and_their_faults_are_one_sentence(
    tmp_path: Path, ratify: Ratify
) -> None:
    for side, right in (("old", 60), ("new", 20)):
        rows = [json.dumps({"prompt_id": n, "text": str(n + (n >= right))}) for n in range(80)]
        (tmp_path / f"{side}.jsonl").write_text("\n".join(rows))
        (tmp_path / f"results_{side}.json").write_text(json.dumps({
            "results": {"task": {"acc,none": right / 80}}, "n-samples": {"task": {"effective": 80}},
        }))  # fmt: skip
    items = [json.dumps({"id": str(n), "prompt": f"{n}?", "answers": [str(n)]}) for n in range(80)]
    (tmp_path / "suite.jsonl").write_text("\n".join(items))
    files = ["--old", str(tmp_path / "old.jsonl"), "--new", str(tmp_path / "new.jsonl")]
    harness = ["--harness-old", str(tmp_path / "results_old.json"), "--harness-new", str(tmp_path / "results_new.json")]
    suite = ["--capability", str(tmp_path / "suite.jsonl")]
    said = ratify("evaluate", *files, *harness, *suite, "--out", str(tmp_path / "out"))
    assert said.code == 0 and "Harness: task" in said.out and "Items answered rightly" in said.out
    violated = [line.strip() for line in said.out.splitlines() if line.strip().startswith("violated:")]
    assert [line.partition(",")[0] for line in violated if "parent" in line] == [
        "violated: Items answered rightly", "violated: Harness: task",
    ]  # fmt: skip
    assert "What the harness says" in (tmp_path / "out" / "report.html").read_text()
    for wrong, code, told in (
        ([*files, *harness[:2]], 2, "--harness-new"),
        (harness, 2, "--old FILE"),
        (["configs/demo.toml", *harness], 2, "suites.harness_old=PATH"),
        (["configs/demo.toml", *files], 2, "--old belongs to two plain files"),
        ([*files, *harness[:3], str(tmp_path / "gone.json")], 3, "do not exist"),
        ([*files, "--capability", str(tmp_path / "gone.jsonl")], 3, "does not exist"),
        ([*files, "--anchor", str(tmp_path / "gone.txt")], 3, "does not exist"),
    ):
        said = ratify("evaluate", *wrong)
        assert said.code == code and told in said.err and said.err.count("\n") == 1, said.err
