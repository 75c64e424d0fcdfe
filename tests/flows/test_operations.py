"""`ratify up` for real: Prefect's server, a worker, a schedule that fires, a run started and cancelled as the page does
it, a person's answer, and `ratify down`.

One stack serves the whole file. The schedule is switched on first and looked at after the first run, so that waiting
for the minute costs little.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import Artifact, FlowRun, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows.services import read_stack
from ratify.canonical import model_digest
from ratify.lineage import ROOT
from ratify.processes import start_time
from tests.flows.test_gate_cli import MadeRun

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_S = 400.0
STOP_S = 20.0
"""Seconds within which a cancelled training must be gone."""
EVERY_MINUTE = CronSchedule(cron="* * * * *")
OWN = {"keep_days": 365}
"""What a person's own schedule changes in the form."""


class Running(NamedTuple):
    """The stack, as a client of its API sees it."""

    client: SyncPrefectClient
    runs: Path
    state: Path
    said: str

    def start(self, deployment: str, **parameters: Any) -> UUID:
        """Start a deployment as the page does."""
        found = self.client.read_deployment_by_name(deployment)
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def wait(self, run: UUID, *states: StateType) -> FlowRun:
        """Wait until a flow run is in one of some states."""
        end = time.monotonic() + PATIENCE_S
        while (found := self.client.read_flow_run(run)).state.type not in states:
            assert time.monotonic() < end and not found.state.is_final(), (found.state, self.log())
            time.sleep(0.2)
        return found

    def artifacts(self, run: UUID) -> list[Artifact]:
        """What a flow run and its subflows left in the page."""
        below = self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run]))
        )
        ids = [run, *(each.id for each in below)]
        return self.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=ids)), limit=200
        )

    def log(self) -> str:
        return (self.state / "worker.log").read_text()[-3000:]


def ratify(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    left_out = ("PREFECT_API_URL", "PREFECT_HOME")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", command, *arguments],
        cwd=ROOT, env=clean | environment, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state, runs = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("runs")
    places = ["--state", str(state), "--runs", str(runs), "--port", "0", "--reports-port", "0"]
    try:
        up = ratify("up", *places, PREFECT_WORKER_QUERY_SECONDS="1")
        assert up.returncode == 0, up.stdout + up.stderr
        address = re.search(r"the page: +(http://127\.0\.0\.1:\d+)", up.stdout)
        assert address
        with temporary_settings({PREFECT_API_URL: f"{address[1]}/api"}), get_client(sync_client=True) as client:
            schedule = client.read_deployment_by_name("clean-runs/cleanup")
            client.create_deployment_schedules(schedule.id, [(EVERY_MINUTE, True)], parameters=OWN)
            yield Running(client, runs, state, up.stdout)
    finally:
        down = ratify("down", "--state", str(state))
        assert down.returncode == 0, down.stderr


@pytest.fixture(scope="module")
def form(running: Running, labelled_run: Path, fake_policy_url: str) -> dict[str, Any]:
    """What a person would fill in to go on with a small run, whose candidates are made."""
    candidates = labelled_run / "round-000" / "generate"
    shutil.copytree(candidates, running.runs / "page" / "round-000" / "generate")
    return {
        "config": "configs/demo.toml",
        "run_name": "page",
        "overrides": [
            f"run.dir={running.runs}", "prompts.train_limit=20", "prompts.heldout_limit=4", "policy.concurrency=8",
            f"policy.base_url={fake_policy_url}", "policy.model=fake-policy", "policy.train_from=data/demo/policy",
            "judge.kind=rules", "reward_model.enabled=false", "preference.epochs=12", "preference.save_every_steps=4",
            "preference.max_kl=1000",
        ],
    }  # fmt: skip


def test_up_says_what_runs_and_doing_it_again_starts_nothing(running: Running) -> None:
    for name in (
        "start-round/nightly",
        "start-rounds/rounds",
        "check-judge/weekly",
        "relabel-edit/on-edit",
        "approve-policy/approval",
    ):
        assert name in running.said
    before = read_stack(running.state)
    assert all(service.alive for service in before.services.values())
    stack = before.services
    again = ratify("up", "--state", str(running.state), "--runs", str(running.runs))
    assert again.returncode == 0 and "runs already" in again.stdout, again.stdout + again.stderr
    assert read_stack(running.state).services == stack
    kept = running.client.read_deployment_by_name("clean-runs/cleanup").schedules
    mine = [(each.active, each.parameters) for each in kept if each.schedule == EVERY_MINUTE]
    assert mine == [(True, OWN)], "a person's schedule stays as it is"
    names = [each.name for each in running.client.read_automations()]
    assert len(names) == len(set(names)) and "ratify: the gate rejects" in names
    with urllib.request.urlopen(f"http://127.0.0.1:{stack['reports'].port}/") as answer:
        assert b"Reports" in answer.read()


def test_a_run_started_in_the_page_ends_with_its_artifacts(running: Running, form: dict[str, Any]) -> None:
    run = running.start("start-round/nightly", **form, part="label")
    found = running.wait(run, StateType.COMPLETED)
    assert found.name == "page · round 0 · label"
    assert {"nightly", "judge:rules", "policy:fake-policy"} <= set(found.tags)
    assert any(re.fullmatch(r"constitution:[0-9a-f]{12}", tag) for tag in found.tags)
    by_key = {each.key: each for each in running.artifacts(run)}
    assert {"label", "label-summary"} <= set(by_key)
    data: Any = by_key["label"].data
    rows = {row["figure"]: row["value"] for row in (json.loads(data) if isinstance(data, str) else data)}
    metrics = json.loads((running.runs / "page" / "round-000" / "label" / "manifest.json").read_text())["metrics"]
    assert set(rows) == set(metrics)
    assert rows["label/pairs/count"] == f"{metrics['label/pairs/count']:,}"
    assert list((running.runs / "page" / "constitutions").glob("*.yaml"))


def test_a_cron_schedule_fires(running: Running) -> None:
    deployment = running.client.read_deployment_by_name("clean-runs/cleanup")
    mine = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])),
    )
    end = time.monotonic() + PATIENCE_S
    while True:
        fired = running.client.read_flow_runs(flow_run_filter=mine)
        if fired:
            break
        assert time.monotonic() < end, running.log()
        time.sleep(0.5)
    assert fired[0].auto_scheduled and fired[0].expected_start_time.second == 0
    assert any(each.key == "cleanup" for each in running.artifacts(fired[0].id))
    schedule = running.client.read_deployment_schedules(deployment.id)
    for each in schedule:
        running.client.delete_deployment_schedule(deployment.id, each.id)


def training_children(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"training.child" in path.read_bytes() and str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_cancelled_in_mid_training_it_stops_and_resumes_to_the_same_policy(
    running: Running, form: dict[str, Any]
) -> None:
    run = running.runs / "page"
    shutil.copytree(run, running.runs / "unbroken")
    stage = run / "round-000" / "policy"
    begun = running.start("start-round/nightly", **form, part="train")
    end = time.monotonic() + PATIENCE_S
    while not list(stage.glob("checkpoints/*")) and not list(stage.glob("checkpoint*")):
        assert time.monotonic() < end and not (stage / "manifest.json").exists(), running.log()
        time.sleep(0.05)
    children = training_children(running.runs)
    assert children
    asked = time.monotonic()
    running.client.set_flow_run_state(begun, Cancelling())
    while any(start_time(child) is not None for child in children):
        assert time.monotonic() - asked < STOP_S, running.log()
        time.sleep(0.05)
    running.wait(begun, StateType.CANCELLED)
    assert not (stage / "manifest.json").exists()
    again = running.start("start-round/nightly", **form, part="train")
    running.wait(again, StateType.COMPLETED)
    progress = [each for each in running.artifacts(again) if each.type == "progress"]
    assert progress and progress[0].key == "progress-training-the-policy"
    plain = ratify("train", form["config"], *form["overrides"], "run.name=unbroken", "--no-prefect")
    assert plain.returncode == 0, plain.stderr
    unbroken = running.runs / "unbroken" / "round-000" / "policy"
    assert model_digest(stage / "model") == model_digest(unbroken / "model")


def test_a_person_approves_in_the_page_and_nobody_is_no_approval(running: Running) -> None:
    made = MadeRun(running.runs)
    made.configure("gate.require_approval=true")
    silent = running.start("approve-policy/approval", run=str(made.path), hours=0.0003)
    asked = running.start("approve-policy/approval", run=str(made.path))
    waiting = running.wait(asked, StateType.PAUSED)
    assert waiting.state.name == "Suspended"
    answer = {"approve": True, "who": "Ada", "why": "read 50 replies"}
    refused = running.client.resume_flow_run(asked, run_input={"approve": True, "who": "", "why": "x"})
    assert refused.status.value != "ACCEPT", "a name is needed"
    end = time.monotonic() + PATIENCE_S
    while not (found := running.client.read_flow_run(silent)).state.is_final():
        assert time.monotonic() < end, found.state
        time.sleep(0.2)
    assert found.state.type == StateType.FAILED
    assert made.promoted["policy"]["digest"] == model_digest(made.first), "silence promotes nothing"
    running.client.resume_flow_run(asked, run_input=answer)
    done = running.wait(asked, StateType.COMPLETED)
    assert done.state.name == "Promoted"
    assert made.promoted["policy"]["digest"] == model_digest(made.model)
    last = made.history[-1]
    assert (last["person"], last["reason"]) == ("Ada", "read 50 replies") and last["time"]
    shown = next(each for each in running.artifacts(asked) if each.key == "promotion")
    assert "Ada" in str(shown.data) and "read 50 replies" in str(shown.data)


def test_down_ends_what_up_started_and_nothing_else(running: Running) -> None:
    bystander = subprocess.Popen(["sleep", "300"], start_new_session=True)
    services = list(read_stack(running.state).services.values())
    said = ratify("down", "--state", str(running.state))
    assert said.returncode == 0 and said.stdout.count("ended") == len(services), said.stdout
    assert not any(service.alive for service in services)
    assert bystander.poll() is None
    bystander.send_signal(signal.SIGKILL)
    bystander.wait()
    assert "was not running" in ratify("down", "--state", str(running.state)).stdout
