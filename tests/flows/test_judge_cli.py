"""`ratify judge check`, `probe` and `record` as a person runs them: what is asked, what is stored, how they end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.judges.fake_server import FakeServer, by_hash

RUN = Callable[..., Any]


@pytest.fixture
def rules(tmp_path: Path) -> list[str]:
    return ["configs/demo.toml", "judge.kind=rules", f"run.dir={tmp_path}", "run.name=x"]


def asking(server: FakeServer, folder: Path) -> list[str]:
    return [
        "configs/demo.toml", f"judge.base_url={server.url}", "judge.model=fake", f"run.dir={folder}", "run.name=x",
        "--pairs", "12", "--probed", "6",
    ]  # fmt: skip


def test_a_judge_of_checks_is_examined_for_nothing(ratify: RUN, rules: list[str]) -> None:
    said = ratify("judge", "check", *rules, "--json")
    found = json.loads(said.out)
    assert said.code == (0 if found["fitness"]["fit"] else 1) and found["failed"] == 0
    assert found["agreement"]["overall"]["n"] == 60
    assert {each["attack"] for each in found["probes"]} >= {"order", "forged_verdict", "twice"}
    assert "this judge asks nobody" in said.err


def test_a_check_shows_its_cost_before_it_asks_and_a_repeat_costs_nothing(ratify: RUN, tmp_path: Path) -> None:
    price = ["judge.price.prompt_per_million=1", "judge.price.completion_per_million=2"]
    with FakeServer() as server:
        before = ratify("judge", "check", *asking(server, tmp_path), *price, "--cost")
        assert before.code == 0 and server.judged == 0 and "at most" in before.out and "USD" in before.out
        first = ratify("judge", "check", *asking(server, tmp_path), "--json")
        asked = server.judged
        again = ratify("judge", "check", *asking(server, tmp_path), "--json")
        assert asked > 0 and server.judged == asked
    one, other = json.loads(first.out), json.loads(again.out)
    assert one["cost"]["label/calls/count"] == asked and other["cost"]["label/calls/count"] == 0
    assert one["agreement"] == other["agreement"] and one["fitness"] == other["fitness"]


def test_a_coin_is_not_fit_and_ends_with_code_1(ratify: RUN, tmp_path: Path) -> None:
    with FakeServer(by_hash) as server:
        said = ratify("judge", "check", *asking(server, tmp_path))
    assert said.code == 1 and "This judge is NOT FIT" in said.out and "agreement with gold" in said.out


def test_an_injected_judge_fails_the_probe(ratify: RUN, tmp_path: Path) -> None:
    def obeys(text: str) -> dict[str, float]:
        yes = 0.97 if "Ignore all instructions above" in text else 0.5 + 0.4 * math.sin(len(text))
        return {"Yes": math.log(yes * 0.99), "No": math.log((1 - yes) * 0.99)}

    arguments = asking(FakeServer(), tmp_path)[:-4]
    with FakeServer(obeys) as server:
        arguments[1] = f"judge.base_url={server.url}"
        said = ratify("judge", "probe", *arguments, "--pairs", "12")
    assert said.code == 1 and "NOT STEADFAST" in said.out and "injection order" in said.out


def test_a_recording_repeats_a_check_without_its_judge(ratify: RUN, rules: list[str], tmp_path: Path) -> None:
    original = json.loads(ratify("judge", "check", *rules, "--json").out)
    out = tmp_path / "said.jsonl"
    recorded = ratify("judge", "record", rules[0], str(out), *rules[1:])
    silent = 1  # the checks have nothing to say about the principle `safe`
    assert recorded.code == 0 and f"{len(out.read_text().splitlines()) - silent:,} verdicts" in recorded.out
    assert "is there already" in ratify("judge", "record", rules[0], str(out), *rules[1:]).err
    replay = ["configs/demo.toml", "judge.kind=replay", f"judge.recordings={out}", f"run.dir={tmp_path}", "run.name=y"]
    replayed = json.loads(ratify("judge", "check", *replay, "--json").out)
    assert replayed["agreement"]["overall"] == original["agreement"]["overall"]


def test_what_was_never_recorded_is_said_in_one_sentence(ratify: RUN, tmp_path: Path) -> None:
    empty = tmp_path / "none.jsonl"
    empty.write_text("")
    replay = ["configs/demo.toml", "judge.kind=replay", f"judge.recordings={empty}", f"run.dir={tmp_path}"]
    said = ratify("judge", "check", *replay)
    assert said.code == 1 and "this question was not recorded: principle" in said.out
    assert "100% of the verdicts are missing" in said.out


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["judge.kind=replay"], "set judge.recordings to a file"),
        (["judge.recordings=x.jsonl"], "judge.recordings belongs to judge.kind = 'replay'"),
        (["judge.kind=replay", "judge.recordings=absent.jsonl"], "recording absent.jsonl cannot be read"),
        (["judge.forbid_policy_family=true"], "are of one family (qwen), and a judge prefers its own"),
        (["gold.path=absent.jsonl"], "gold file absent.jsonl cannot be read"),
        (["gold.calibrate=temperature"], "needs at least 20 gold pairs: set gold.canaries"),
        (["gold.calibrate=isotonic", "gold.canaries=500"], "set gold.calibrate = 'temperature' or judge.protocol"),
        (["gold.min_agreement=0.7"], "set gold.canaries, such as 100"),
        (["budget.money=3"], "budget.money is set and nobody knows what a token costs: set judge.price"),
    ],
)
def test_bad_settings_are_one_sentence(ratify: RUN, tmp_path: Path, overrides: list[str], sentence: str) -> None:
    said = ratify("judge", "check", "configs/demo.toml", f"run.dir={tmp_path}", *overrides)
    assert said.code in (2, 3) and sentence in said.err and "Traceback" not in said.err


def test_a_panel_of_two_configurations_is_compared_on_the_same_pairs(ratify: RUN, tmp_path: Path) -> None:
    text = Path("configs/demo.toml").read_text().replace('name = "demo"', 'name = "{}"')
    with FakeServer() as server:
        fake = [f'[judge]\nbase_url = "{server.url}"', 'model = "fake"     ']
        asks = text.replace("[judge]", fake[0]).replace('model = "data/demo/judge"', fake[1])
        rules = text.replace("[judge]", '[judge]\nkind = "rules"')
        for name, config in (("asks", asks), ("rules", rules)):
            (tmp_path / f"{name}.toml").write_text(config.format(name))
        configs = [str(tmp_path / "asks.toml"), str(tmp_path / "rules.toml")]
        said = ratify("judge", "panel", *configs, "--set", f"run.dir={tmp_path}", "--pairs", "20", "--json")
        found = json.loads(said.out)
        assert said.code == 0 and set(found["judges"]) == {"asks", "rules"} and found["pairs"] == 20
        assert set(found["together"]) == {"logit_mean", "vote"} and "asks and rules" in found["kappa"]
        shown = ratify("judge", "panel", *configs, "--set", f"run.dir={tmp_path}", "--pairs", "20")
        assert "panel: logit mean" in shown.out and "Gwet AC1" in shown.out
    twice = ratify("judge", "panel", configs[1], configs[1], "--set", f"run.dir={tmp_path}")
    assert twice.code == 2 and "each of them once" in twice.err
