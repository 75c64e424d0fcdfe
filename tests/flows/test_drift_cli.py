"""`ratify drift` as a scheduler runs it: what is asked again, what is remembered, how it ends."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ratify.config import load_config, resolved_json
from ratify.lineage import ROOT
from tests.flows.test_gate_cli import MadeRun
from tests.judges.fake_server import FakeServer

Ratify = Callable[..., Any]
PAIRS = 24


def prefers(word: str) -> Callable[[str], dict[str, float]]:
    """A judge that says yes to replies with a word."""

    def answer(text: str) -> dict[str, float]:
        p = 0.9 if word in text else 0.1
        return {"Yes": math.log(p), "No": math.log(1 - p)}

    return answer


class Watched:
    """A run whose judge is a server that can change its mind."""

    def __init__(self, folder: Path, server: FakeServer) -> None:
        self.server, self.path = server, folder / "run"
        self.gold = folder / "gold.jsonl"
        rows = [{"prompt": f"Which one, {k}?", "a": f"A zebra, {k}.", "b": f"A mongoose, {k}.", "gold": "a"}
                for k in range(PAIRS)]  # fmt: skip
        self.gold.write_text("\n".join(map(json.dumps, rows)))
        (self.path / "round-000").mkdir(parents=True)
        self.configure("fake")

    def configure(self, model: str, *more: str) -> None:
        overrides = [f"run.dir={self.path.parent}", "run.name=run", f"judge.base_url={self.server.url}",
                     f"judge.model={model}", f"gold.path={self.gold}", *more]  # fmt: skip
        config = load_config(ROOT / "configs" / "demo.toml", overrides)
        (self.path / "config.json").write_text(resolved_json(config))

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "drift" / "judge.jsonl").read_text().splitlines()]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with FakeServer(prefers("zebra")) as server:
        yield Watched(tmp_path, server)


def judge_of(ratify: Ratify, run: Watched, *options: str) -> Any:
    return ratify("drift", str(run.path), "--part", "judge", "--pairs", "12", *options)


def test_a_judge_that_changes_its_mind_under_one_name_is_found_out(ratify: Ratify, watched: Watched) -> None:
    first = judge_of(ratify, watched)
    asked = watched.server.judged
    assert first.code == 0 and f"100.0% of {PAIRS} pairs" in first.out and asked >= 2 * PAIRS
    again = judge_of(ratify, watched)
    assert again.code == 0 and watched.server.judged == asked + asked // 2, "half of the gold was asked afresh"
    assert "0 were right before and are wrong now" in again.out and "false alarms" in again.out
    watched.server.answer = prefers("mongoose")
    turned = judge_of(ratify, watched, "--json")
    found = {reading["name"]: reading for reading in json.loads(turned.out)["readings"]}
    assert turned.code == 11 and found["check against the epoch's baseline"]["state"] == "drift"
    assert [check["kind"] for check in watched.history] == ["baseline", "slice", "slice"]
    slices = [set(check["answers"]) for check in watched.history[1:]]
    assert not slices[0] & slices[1] and slices[0] | slices[1] == set(watched.history[0]["answers"])
    assert not list((watched.path / "drift").glob("check-*")), "nothing is left of finished checks"
    assert judge_of(ratify, watched, "--no-ask").code == 11 and len(watched.history) == 3


def test_another_judge_begins_an_epoch(ratify: Ratify, watched: Watched) -> None:
    judge_of(ratify, watched)
    watched.configure("fake", "judge.cache_salt=other")
    unread = judge_of(ratify, watched, "--no-ask")
    assert unread.code == 12 and "has changed since" in unread.out
    said = judge_of(ratify, watched)
    assert said.code == 0 and "another judge" in said.out and "new epoch" in said.out
    assert [check["kind"] for check in watched.history] == ["baseline", "baseline"]


def test_a_half_written_line_of_a_killed_check_is_no_check(ratify: Ratify, watched: Watched) -> None:
    judge_of(ratify, watched)
    journal = watched.path / "drift" / "judge.jsonl"
    with journal.open("ab") as handle:
        handle.write(b'{"number": 2, "kind": "sl')
    assert judge_of(ratify, watched).code == 0
    assert [check["number"] for check in watched.history] == [1, 2]
    journal.write_text("{}\n")
    said = judge_of(ratify, watched)
    assert said.code == 6 and "judge.jsonl:1:" in said.err and said.err.count("\n") == 1


def test_what_cannot_be_looked_at_is_code_12_and_never_steady(ratify: Ratify, watched: Watched) -> None:
    path = watched.path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "gold": {}}))
    said = ratify("drift", str(watched.path), "--json")
    report = json.loads(said.out)
    states = {reading["part"]: reading["state"] for reading in report["readings"]}
    assert said.code == 12 and states["judge"] == states["reward_model"] == states["policy"] == "insufficient"
    assert json.loads((watched.path / "drift" / "report.json").read_text()) == report
    wrong = ratify("drift", str(watched.path), "--part", "weather")
    assert wrong.code == 2 and wrong.err.count("\n") == 1


def test_prompts_are_held_against_a_frozen_reference(ratify: Ratify, watched: Watched, tmp_path: Path) -> None:
    prompts = ["drift", str(watched.path), "--part", "prompts"]
    assert ratify(*prompts).code == 0
    frozen = (watched.path / "drift" / "reference_prompts.jsonl").read_text()
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(json.dumps({"prompt": f"Please translate sentence {k} to Latin."}) for k in range(120)))
    said = ratify(*prompts, "--prompts", str(other))
    assert said.code == 11 and "words, by MMD" in said.out
    assert (watched.path / "drift" / "reference_prompts.jsonl").read_text() == frozen
    other.write_bytes(b'{"prompt": "caf\xe9"}\n')
    assert ratify(*prompts, "--prompts", str(other)).code == 3, "not UTF-8 is one sentence"


def test_a_run_with_an_evaluation_says_what_its_policy_lacks(tmp_path: Path, ratify: Ratify) -> None:
    made = MadeRun(tmp_path)
    said = ratify("drift", str(made.path), "--part", "policy")
    assert said.code == 12 and "KL to the reference: 2.00 nats" in said.out and "aa_seeds" in said.out
