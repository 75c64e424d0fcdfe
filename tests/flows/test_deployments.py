"""prefect.yaml: every deployment points at a flow that takes its parameters, is off until somebody switches it on, and
its form is short and holds no secret."""

import importlib
from typing import Any

import pytest
from ruamel.yaml import YAML

from ratify.lineage import ROOT

FILE: dict[str, Any] = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = FILE["deployments"]
MOST_FIELDS = 6


def flow_of(deployment: dict[str, Any]) -> Any:
    module, _, name = deployment["entrypoint"].rpartition(".")
    assert name == module.rpartition(".")[2], "a flow's file bears its name"
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["name"])
def test_a_deployment_is_off_alone_and_takes_its_parameters(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    given = deployment.get("parameters", {})
    for own in ({}, *(schedule.get("parameters", {}) for schedule in deployment["schedules"])):
        flow.validate_parameters(given | own)
    assert not any(schedule["active"] for schedule in deployment["schedules"])
    if deployment["schedules"]:
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    properties = flow.parameters.model_dump_for_openapi()["properties"]
    assert len(properties) <= MOST_FIELDS
    for name, field in properties.items():
        assert field.get("description", "").endswith("."), f"{name} needs a line in the flow's Args"
        assert not any(word in name for word in ("key", "token", "secret", "password"))


def test_the_form_for_rounds_takes_no_goal_that_cannot_be() -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.start_rounds import start_rounds

    fields = start_rounds.parameters.model_dump_for_openapi()["properties"]
    assert (fields["rounds"]["minimum"], fields["more"]["minimum"]) == (1, 0), "the page refuses it in its form"
    for wrong in ({"rounds": 0}, {"more": -1}, {"rounds": "many"}):
        with pytest.raises(ParameterTypeError, match=next(iter(wrong))):
            start_rounds.validate_parameters(wrong)


def test_a_configuration_with_a_key_is_refused_by_the_flow_as_by_the_command() -> None:
    from flows.start_round import configured
    from ratify.errors import ConfigError

    with pytest.raises(ConfigError, match="must name an environment variable") as fault:
        configured("configs/demo.toml", ["judge.api_key_env=sk-planted-key"], "")
    assert "planted" not in str(fault.value)


def test_no_automation_holds_more_than_names_and_figures() -> None:
    from uuid import uuid4

    from flows.registration import ZOMBIE_AFTER, alarms, zombies

    assert ZOMBIE_AFTER.total_seconds() >= 540
    assert zombies().trigger.within == ZOMBIE_AFTER
    for automation in alarms(uuid4()):
        body = automation.actions[0].body
        assert body.count("{{") == 2 and "event.payload" in body
        assert automation.name.startswith("ratify: ")


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"config": "configs/demo.toml", "round_number": 2, "part": "label"}, "demo · round 2 · label"),
        ({"config": "configs/demo.toml", "overrides": ["run.name=other"], "part": "round"}, "other"),
        ({"config": "configs/demo.toml", "run_name": "mine", "round_number": 0}, "mine · round 0"),
        ({"run": "/data/runs/nightly", "hours": 3}, "nightly"),
        ({"config": "configs/none.toml"}, "none"),
        ({}, "runs"),
    ],
)
def test_a_flow_run_is_called_after_its_run_round_and_part(given: dict[str, Any], title: str) -> None:
    from flows.prefect_tags import run_title

    assert run_title(given) == title
