"""Which server a flow will start, so that vLLM is imported ahead only where it is used."""

from typing import Any

import pytest

from flows.context import RunContext
from flows.stages import servers
from ratify.config import load_config
from ratify.lineage import ROOT

REMOTE = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("flow", "overrides", "warmed"),
    [
        ("run_round", ["judge.kind=rules"], ["policy"]),
        ("label_preferences", ["judge.kind=rules"], []),
        ("label_preferences", [], ["judge"]),
        ("label_preferences", [f"judge.base_url={REMOTE}"], []),
        ("evaluate_policy", [f"policy.base_url={REMOTE}", "policy.train_from=data/demo/policy"], ["judge"]),
        ("train_policy", [], []),
    ],
)
def test_vllm_is_imported_ahead_for_a_server_that_will_start(
    monkeypatch: pytest.MonkeyPatch, flow: str, overrides: list[str], warmed: list[str]
) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(ROOT / "configs" / "demo.toml", overrides)
    engines: list[Any] = []
    monkeypatch.setattr(servers, "warm_up", engines.append)
    servers.warm_up_engines(RunContext(config), flow)
    assert [id(each) for each in engines] == [id(getattr(config, section).engine) for section in warmed]
