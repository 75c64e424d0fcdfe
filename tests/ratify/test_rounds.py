"""A round's record and the configuration that follows from it."""

from pathlib import Path

import pytest

from ratify.config import Config, load_config
from ratify.errors import ConfigError, StoreError
from ratify.lineage import ROOT
from ratify.rounds import (
    Origin,
    RoundRecord,
    StartingPolicy,
    config_of_round,
    read_rounds,
    round_config,
    round_seed,
    write_round,
)


def config(*overrides: str) -> Config:
    return load_config(ROOT / "configs" / "demo-rounds.toml", overrides)


def record(number: int, origin: Origin = "promoted", **fields: object) -> RoundRecord:
    start = StartingPolicy(model="policies/abc", digest="abc", origin=origin, round=None if origin == "first" else 0)
    values = {"number": number, "seed": round_seed(7, number), "start": start, "trained_from": "start",
              "portion": number, "data": "replace", "started": "now", "code": "c"}  # fmt: skip
    return RoundRecord.model_validate(values | fields)


def test_seeds_are_the_runs_own_for_round_0_and_differ_after_it() -> None:
    seeds = [round_seed(7, number) for number in range(50)]
    assert seeds[0] == 7 and len(set(seeds)) == 50 and seeds == [round_seed(7, number) for number in range(50)]
    assert round_seed(8, 1) != round_seed(7, 1)


def test_round_0_has_the_configuration_of_a_single_run() -> None:
    assert round_config(config(), record(0, "first")) == config()


def test_a_later_round_samples_from_its_starting_policy_with_its_own_seed() -> None:
    found = round_config(config("run.seed=7"), record(2))
    assert found.policy.model == found.policy.trainable == "policies/abc"
    assert found.run.seed == round_seed(7, 2)
    assert found.selection.seed == 7 and found.selection.portion == 2, "held-out prompts stay, training ones move on"


def test_a_round_may_train_the_first_policys_weights() -> None:
    found = round_config(config(), record(1, trained_from="first"))
    assert found.policy.model == "policies/abc" and found.policy.trainable == "data/demo/policy"


def test_a_server_of_the_user_serves_the_first_policy_alone() -> None:
    served = config("policy.base_url=http://127.0.0.1:1/v1", "policy.train_from=data/demo/policy")
    assert round_config(served, record(1, "first")).policy.base_url
    assert round_config(served, record(1)).policy.base_url is None


def test_between_calibrations_earlier_calibrators_label_and_no_gold_is_asked() -> None:
    asked = config("gold.canaries=40", "gold.calibrate=temperature", "rounds.recalibrate_every=3")
    found = round_config(asked, record(4, calibrated_in=3)).gold
    assert found.canaries == 0 and found.calibrate == "none"
    assert found.calibrator == asked.run_dir / "round-003" / "label" / "calibrator.json"


def test_records_are_read_back_and_runs_without_them_keep_their_configuration(tmp_path: Path) -> None:
    here = config(f"run.dir={tmp_path}")
    assert read_rounds(here.run_dir) == [] and config_of_round(here, 3) == here
    for number in (1, 0):
        write_round(here.run_dir, record(number))
    assert [each.number for each in read_rounds(here.run_dir)] == [0, 1]
    assert config_of_round(here, 1).policy.model == "policies/abc"
    (here.run_dir / "round-001" / "round.json").write_text("{}")
    with pytest.raises(StoreError, match="not a round's record"):
        read_rounds(here.run_dir)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [(["rounds.data=mix"], "set rounds.reference"),
     (["rounds.reference=x.jsonl"], "belongs to rounds.data = 'mix'"),
     (["rounds.data_size=9"], "belongs to rounds.data = 'subsample'"),
     (["rounds.recalibrate_every=2"], "set gold.canaries"),
     (["selection.at_most={notes = 0.1}", "prompts.train_limit=10", "selection.at_least={notes = 2}"], "from 0 to 1"),
     (["rounds.data=accumulate", "reward_model.objective=tier=x", "labels.objectives=['tier']"],
      "rounds.data = 'replace'")],
)  # fmt: skip
def test_combinations_that_cannot_work_die_at_load(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config(*overrides)
