"""`ratify rounds`: who begins a round, what is promoted, when the loop stops, and what a killed one leaves.

A round's own work is replaced by files with known figures; the gate, the history and the records are real.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.intervals import Estimate
from evaluation.report import ConstitutionText, EvaluationReport, RunIdentity, write_report
from flows.context import RunContext
from flows.stages import rounds as loop
from flows.stages.rounds import advance, finished, goal_of, standstill
from ratify.canonical import model_digest
from ratify.config import Config, load_config
from ratify.errors import ConfigError, GateError, StoreError
from ratify.lineage import ROOT
from ratify.rounds import read_rounds

PAIRS = {"distinct_4": 0.6, "duplicates": 0.1, "truncated": 0.01, "words": 50.0}


class Killed(BaseException):
    """Stands for `kill -9`."""


def figure(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=800, clusters=400, confidence=0.95)


class Rounds:
    """Does a round by writing a model and a report; `distinct` is distinct-2 of each round's new policy, `able` what it
    answers rightly of a suite, of which the first policy answers 0.9."""

    def __init__(
        self, distinct: dict[int, float], kill: tuple[int, str] | None = None, able: dict[int, float] | None = None
    ) -> None:
        self.distinct, self.kill, self.able = distinct, kill, able
        self.done: list[tuple[int, str, int]] = []

    def __call__(self, config: Config, number: int) -> None:
        context = RunContext(config, number)
        self.done.append((number, config.policy.model, config.run.seed))
        self._strike(number, "before")
        model = context.stage("policy").path / "model"
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text(json.dumps({"round": number}))
        self._strike(number, "trained")
        old, stage = config.policy.model, context.stage("evaluate")
        came = self.distinct.get(number - 1, 0.4)
        both = {thing: (value, value) for thing, value in PAIRS.items()} | {"distinct_2": (came, self.distinct[number])}
        metrics = {f"evaluate/{thing}/{stat}": figure(value) for thing, values in both.items()
                   for stat, value in zip(("old", "new"), values, strict=True)}  # fmt: skip
        metrics |= {"evaluate/win_rate.all/rate": figure(0.6), "evaluate/win_rate_length_controlled/rate": figure(0.6),
                    "evaluate/kl/k3_per_reply": figure(2.0)}  # fmt: skip
        metrics |= self._suite(number)
        names = {"old": f"{old} ({model_digest(old)[:12]})", "new": f"{model} ({model_digest(model)[:12]})"}
        stage.begin({"round": number})
        write_report(stage.path / "report.json", EvaluationReport(
            conclusion=("x",), metrics=metrics, counts={"evaluate/win_rate.all/wins": 500},
            identity=RunIdentity(run="r", round=number, judge="j", models=names),
            constitution=ConstitutionText(id="c", version="1", hash="cafe", principles=()),
        ))  # fmt: skip
        stage.finish({"round": number}, {}, 1.0)
        self._strike(number, "evaluated")

    def _suite(self, number: int) -> dict[str, Estimate]:
        if self.able is None:
            return {}
        old, new = self.able.get(number - 1, 0.9), self.able[number]
        found = {"old": figure(old), "new": figure(new), "difference": figure(new - old, 0.01)}
        found |= {"against_first": figure(new - 0.9, 0.01)} if number else {}
        return {f"evaluate/capability.all/{stat}": each for stat, each in found.items()}

    def _strike(self, number: int, moment: str) -> None:
        if self.kill == (number, moment):
            self.kill = None
            raise Killed


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    monkeypatch.setattr(loop, "write_rounds_page", lambda *_: None)
    monkeypatch.chdir(ROOT)
    first = tmp_path / "first"
    first.mkdir()
    (first / "config.json").write_text("{}")

    def make(*overrides: str) -> Config:
        given = [f"run.dir={tmp_path}", "run.name=r", f"policy.model={first}", "gold.path=data/demo/gold_pairs.jsonl"]
        path = ROOT / "configs" / "demo-rounds.toml"
        found = load_config(path, [*given, *overrides])
        return found.model_copy(update={"evaluation": found.evaluation.model_copy(update={"world": None})})

    return make


Make = Callable[..., Config]
GOOD = {0: 0.41, 1: 0.40, 2: 0.41, 3: 0.42}
FALLING = {0: 0.40, 1: 0.36, 2: 0.25, 3: 0.20}


def test_each_round_starts_from_the_promoted_policy(config: Make) -> None:
    here, work = config(), Rounds(GOOD)
    assert advance(here, 3, work) is None
    records = read_rounds(here.run_dir)
    assert [each.closed.decision for each in records if each.closed] == ["PROMOTE"] * 3
    assert [each.start.origin for each in records] == ["first", "promoted", "promoted"]
    assert [each.start.round for each in records] == [None, 0, 1]
    assert "/policies/" in work.done[1][1] and len({seed for _, _, seed in work.done}) == 3
    pointer = json.loads((here.run_dir / "promoted.json").read_text())
    assert pointer["policy"]["round"] == 2 and len(pointer["lineage"]) == 3


def test_finished_rounds_are_not_done_again_and_more_can_be_added(config: Make) -> None:
    here, work = config(), Rounds(GOOD)
    advance(here, 2, work)
    before = {path: path.stat().st_mtime_ns for path in here.run_dir.rglob("*") if path.is_file()}
    assert finished(here, 2)
    advance(here, 2, work)
    after = {path: path.stat().st_mtime_ns for path in here.run_dir.rglob("*") if path.is_file()}
    assert len(work.done) == 2 and {k: v for k, v in before.items() if k.name != ".lock"} == {
        k: v for k, v in after.items() if k.name != ".lock"
    }
    assert goal_of(here, 5) == 5 and goal_of(here, 5, more=1) == 3
    advance(here, 3, work)
    assert [number for number, _, _ in work.done] == [0, 1, 2]


def test_the_loop_stops_at_reject_says_why_and_a_person_lets_it_go_on(config: Make) -> None:
    from flows.stages.gate import promote

    here, work = config(), Rounds(FALLING)
    stopped = advance(here, 4, work)
    assert stopped is not None and (stopped.round, stopped.decision) == (2, "REJECT")
    assert "Distinct word pairs" in stopped.sentence and "rounds.stop_on" in stopped.sentence
    assert advance(here, 4, work) == stopped and len(work.done) == 3, "nothing more is done"
    assert json.loads((here.run_dir / "promoted.json").read_text())["policy"]["round"] == 1
    with pytest.raises(GateError):
        promote(here.run_dir, None)
    promote(here.run_dir, "looked at it")
    assert standstill(here) is None
    advance(here, 4, work)
    assert work.done[-1][0] == 3 and read_rounds(here.run_dir)[3].start.round == 2


def test_a_suite_that_is_lost_little_by_little_stops_the_loop_by_the_first_policy(config: Make) -> None:
    """Rounds lose 3, 0 and 3 points against their parents, of at most 5: the first and the last loss together are 6."""
    here = config("suites.capability=data/demo/capability.jsonl")
    stopped = advance(here, 4, Rounds(GOOD, able={0: 0.87, 1: 0.87, 2: 0.84, 3: 0.81}))
    records = read_rounds(here.run_dir)
    assert [each.closed.decision for each in records if each.closed] == ["PROMOTE", "PROMOTE", "REJECT"], stopped
    assert stopped is not None
    assert "Items answered rightly, change against the first policy" in stopped.sentence
    bare = config("suites.capability=data/demo/capability.jsonl", "run.name=bare")
    stopped = advance(bare, 1, Rounds(GOOD))
    closed = read_rounds(bare.run_dir)[0].closed
    assert closed is not None and closed.decision == "INSUFFICIENT", "a suite that nobody answered never passes"
    assert "evaluate/capability.all/new is not known" in closed.reason


def test_the_newest_policy_goes_on_while_the_gate_only_watches(config: Make) -> None:
    here, work = config("rounds.start_from=latest", "rounds.stop_on=never"), Rounds(FALLING)
    assert advance(here, 4, work) is None
    records = read_rounds(here.run_dir)
    assert [each.start.round for each in records] == [None, 0, 1, 2]
    decisions = [each.closed.decision for each in records if each.closed]
    assert decisions == ["PROMOTE", "PROMOTE", "REJECT", "REJECT"], "against its own parent and the first policy"
    assert [each.closed.promoted for each in records if each.closed] == [True, True, False, False]
    assert json.loads((here.run_dir / "promoted.json").read_text())["policy"]["round"] == 1


def test_a_policy_whose_parent_is_not_promoted_is_not_promoted(config: Make) -> None:
    here = config("rounds.start_from=latest", "rounds.stop_on=never")
    advance(here, 3, Rounds({0: 0.40, 1: 0.28, 2: 0.40}))
    last = read_rounds(here.run_dir)[2].closed
    assert last is not None and last.decision == "PROMOTE" and not last.promoted


def test_promotion_may_be_left_to_people(config: Make) -> None:
    here = config("rounds.promote=false")
    work = Rounds(dict.fromkeys(range(3), 0.41))
    advance(here, 2, work)
    records = read_rounds(here.run_dir)
    assert [each.start.origin for each in records] == ["first", "first"]
    assert not any(each.closed.promoted for each in records if each.closed)


@pytest.mark.parametrize("moment", ["before", "trained", "evaluated"])
def test_a_killed_round_goes_on_with_what_it_began_with(config: Make, moment: str) -> None:
    here, work = config(), Rounds(GOOD, kill=(1, moment))
    with pytest.raises(Killed):
        advance(here, 3, work)
    begun = read_rounds(here.run_dir)[1]
    assert begun.closed is None
    advance(here, 3, work)
    records = read_rounds(here.run_dir)
    assert records[1].model_copy(update={"closed": None}) == begun
    assert [each.closed.decision for each in records if each.closed] == ["PROMOTE"] * 3
    assert [number for number, _, _ in work.done] == [0, 1, 1, 2]


def test_a_kill_between_promotion_and_record_promotes_once(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    here, work = config(), Rounds(GOOD)
    written = loop.write_round

    def die(run: Path, record: Any) -> None:
        if record.closed and record.number == 1:
            raise Killed
        written(run, record)

    monkeypatch.setattr(loop, "write_round", die)
    with pytest.raises(Killed):
        advance(here, 2, work)
    monkeypatch.setattr(loop, "write_round", written)
    advance(here, 2, work)
    history = [json.loads(line) for line in (here.run_dir / "promotions.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in history].count("promotion") == 2
    last = read_rounds(here.run_dir)[1].closed
    assert last is not None and last.promoted and last.decision == "PROMOTE"


def test_another_first_policy_needs_another_run(config: Make, tmp_path: Path) -> None:
    here, work = config(), Rounds(GOOD)
    advance(here, 1, work)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"other": 1}')
    with pytest.raises(ConfigError, match=r"give this configuration another run\.name"):
        advance(config(f"policy.model={other}"), 2, work)


def test_a_starting_policy_that_has_changed_is_refused(config: Make) -> None:
    here, work = config("rounds.start_from=latest"), Rounds(GOOD)
    advance(here, 1, work)
    (here.run_dir / "round-000" / "policy" / "model" / "config.json").write_text('{"tampered": 1}')
    with pytest.raises(StoreError, match="files are gone or have changed"):
        advance(here, 2, work)


def test_the_command_ends_with_10_and_one_sentence_when_the_gate_has_stopped(
    config: Make, ratify: Callable[..., Any]
) -> None:
    here = config()
    advance(here, 4, Rounds(FALLING))
    first = here.policy.model
    said = ratify(
        "rounds", "configs/demo-rounds.toml", f"run.dir={here.run.dir}", "run.name=r", f"policy.model={first}"
    )
    assert said.code == 10 and "nothing was done" in said.out
    assert said.err.startswith("ratify: the gate said REJECT in round 2") and said.err.count("\n") == 1
    said = ratify("report", str(here.run_dir), "--json")
    by_round = json.loads(said.out)
    assert [each["round"] for each in by_round] == [0, 1, 2]
    assert by_round[2]["figures"]["evaluate/distinct_2/new"]["value"] == 0.25


def test_results_of_one_pair_of_policies_are_refused_for_several_rounds(config: Make) -> None:
    here, work = config("suites.harness_old=old.json", "suites.harness_new=new.json"), Rounds(GOOD)
    with pytest.raises(ConfigError, match="every round has another"):
        advance(here, 2, work)
    assert not work.done and not read_rounds(here.run_dir)


def test_run_refuses_to_redo_a_round_that_others_came_from(config: Make, ratify: Callable[..., Any]) -> None:
    here = config()
    advance(here, 2, Rounds(GOOD))
    before = {path: path.read_bytes() for path in here.run_dir.rglob("*") if path.is_file()}
    given = [f"run.dir={here.run.dir}", "run.name=r", f"policy.model={here.policy.model}"]
    for command in ("run", "evaluate"):
        said = ratify(command, "configs/demo-rounds.toml", *given, "sampling.temperature=0.5", "--no-prefect")
        assert said.code == ConfigError.exit_code and said.err.count("\n") == 1, said.err
        assert "`ratify rounds CONFIG --more 1`" in said.err and "round 0" in said.err
    after = {path: path.read_bytes() for path in here.run_dir.rglob("*") if path.is_file()}
    assert after == before


def test_run_may_redo_the_only_round_of_a_run(config: Make) -> None:
    from flows.stages import FLOWS
    from flows.stages.rounds import refuse_to_redo

    here, group = config(), FLOWS["run_round"]
    advance(here, 1, Rounds(GOOD))
    refuse_to_redo(RunContext(config("sampling.temperature=0.5")), group)
    advance(here, 2, Rounds(GOOD))
    with pytest.raises(ConfigError, match="round 1 is finished with another"):
        refuse_to_redo(RunContext(config("sampling.temperature=0.5"), 1), group)


def test_a_part_of_a_later_round_has_that_rounds_policy_and_seed(
    config: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flows import start_round as form

    here = config()
    with pytest.raises(Killed):
        advance(here, 2, Rounds(GOOD, kill=(1, "before")))
    record, done = read_rounds(here.run_dir)[1], []
    for name in ("tag_run", "keep_constitution", "warm_up_engines"):
        monkeypatch.setattr(form, name, lambda *_: None)
    monkeypatch.setattr(form, "_run_part", lambda name, context: done.append((name, context)))
    given = [f"run.dir={tmp_path}", f"policy.model={here.policy.model}"]
    form.start_round.fn("configs/demo-rounds.toml", given, "r", "generate", 1)
    [(name, context)] = done
    assert (name, context.round_number) == ("generate_candidates", 1)
    assert (context.config.policy.model, context.config.run.seed) == (record.start.model, record.seed)


def test_the_form_for_rounds_goes_on_from_what_the_run_has(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import start_rounds as form

    here, goals = config(), []
    monkeypatch.setattr(form, "configured", lambda *_: here)
    for name in ("tag_run", "keep_constitution", "warm_up_engines"):
        monkeypatch.setattr(form, name, lambda *_: None)

    def rounds(_config: Config, goal: int) -> str:
        goals.append(goal)
        advance(here, goal, Rounds(FALLING))
        return "done"

    monkeypatch.setattr(form, "run_rounds", rounds)
    assert form.start_rounds.fn(rounds=1).name == "Completed"
    assert form.start_rounds.fn(rounds=1, more=1).name == "Completed"
    stopped = form.start_rounds.fn(rounds=4)
    assert goals == [1, 2, 4] and stopped.name == "Stopped" and stopped.is_completed()
