"""What `ratify up` puts on Prefect's server beside deployments: the work pool, and automations as code.

Registering again changes nothing that is already so; a server that is too busy to answer in time is asked again. An
automation whose name begins with "ratify: " is ours and is overwritten; every other one is left alone. Where the
environment names a notification block (`RATIFY_NOTIFICATION_BLOCK`, such as `slack-webhook/team`) alarms go there;
otherwise an alarm is an event that the page shows. Texts name a run and a reason, never a constitution's words.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

import httpx
from prefect import get_client
from prefect.automations import AutomationCore, ChangeFlowRunState, DoNothing, EventTrigger, Posture, SendNotification
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import DeploymentSchedule, StateType
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows import prefect_events
from flows.services import Service, last_lines
from ratify.errors import ConfigError, SchedulerError, StoreError

PREFIX = "ratify: "
BLOCK_VARIABLE = "RATIFY_NOTIFICATION_BLOCK"
ZOMBIE_AFTER = timedelta(seconds=540)
"""Three heartbeats of Prefect's 180 s, so that one that comes late kills nothing."""
WORKER_PATIENCE_S = 240.0
TRIES = 3
"""Each ends after a minute without an answer."""
Schedules = dict[UUID, list[DeploymentSchedule]]
"""By deployment."""
ALARMS = {
    "the gate rejects": prefect_events.GATE_REJECTED,
    "drift": prefect_events.DRIFT_ALARM,
    "a budget stopped a run": prefect_events.BUDGET_STOPPED,
    "the judge is unfit": prefect_events.JUDGE_UNFIT,
    "an edit waits": prefect_events.EDIT_HELD,
    "a promotion waits for a person": prefect_events.APPROVAL_WANTED,
}
ENDINGS = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended", "AwaitingRetry")
"""After these a run owes no heartbeat."""


_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def _patient(do: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """Do what may be done twice again, where the server has not answered; SQLite on a busy machine lets it wait."""

    @wraps(do)
    def patient(*given: _Given.args, **named: _Given.kwargs) -> _Found:
        fault: Exception | None = None
        for _ in range(TRIES):
            try:
                return do(*given, **named)
            except httpx.TransportError as error:
                fault = error
            except httpx.HTTPStatusError as error:
                if not error.response.is_server_error:
                    raise
                fault = error
        raise SchedulerError(
            f"Prefect's server did not answer, {TRIES} times ({type(fault).__name__}); see server.log, and run the "
            "same command again: it starts only what is missing"
        ) from fault

    return patient


@_patient
def make_pool(name: str) -> None:
    """The pool that the worker takes from."""
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        except ObjectAlreadyExists:
            return


@_patient
def register_automations() -> list[str]:
    """Create what is missing and renew what differs; what they watch for, and where alarms go."""
    with get_client(sync_client=True) as client:
        block = _block(client)
        for automation in (*alarms(block), zombies()):
            _put(client, automation)
    goal = os.environ.get(BLOCK_VARIABLE) or f"the page's events; set {BLOCK_VARIABLE} to be told elsewhere"
    return [*ALARMS, "a run without a sign of life for 9 minutes is marked Crashed", f"alarms go to {goal}"]


def alarms(block: UUID | None) -> Iterable[AutomationCore]:
    """One automation for each event that somebody should hear of."""
    for name, event in ALARMS.items():
        text = "{{ event.resource.name }}: " + name + "\n{{ event.payload }}"
        action = SendNotification(block_document_id=block, subject=f"Ratify: {name}", body=text) if block else None
        yield AutomationCore(
            name=PREFIX + name,
            description="Registered by `ratify up`; changes here are overwritten.",
            trigger=EventTrigger(expect={event}, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
            actions=[action or DoNothing()],
        )


def zombies() -> AutomationCore:
    """A run whose process died with its machine stays "Running" for ever, unless somebody looks for its heartbeat."""
    beat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=PREFIX + "a run without a sign of life",
        description="Registered by `ratify up`; changes here are overwritten.",
        trigger=EventTrigger(
            after={beat},
            expect={beat, *(f"prefect.flow-run.{ending}" for ending in ENDINGS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=ZOMBIE_AFTER,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="no sign of life for 9 minutes; what is finished is kept, run it again"
            )
        ],
    )


@_patient
def schedules_now() -> Schedules:
    """Every deployment's schedules as they stand, a person's changes included."""
    with get_client(sync_client=True) as client:
        return {each.id: list(each.schedules) for each in client.read_deployments()}


@_patient
def restore_schedules(before: Schedules) -> None:
    """Deploying sets schedules back to what prefect.yaml says; what a person switched or added stays."""
    with get_client(sync_client=True) as client:
        for deployment, known in before.items():
            now = client.read_deployment_schedules(deployment)
            for old in known:
                same = [each for each in now if (old.slug and each.slug == old.slug) or each.schedule == old.schedule]
                if not same:
                    schedules = [(old.schedule, bool(old.active))]
                    client.create_deployment_schedules(deployment, schedules, parameters=dict(old.parameters))
                elif same[0].active != old.active:
                    client.update_deployment_schedule(deployment, same[0].id, active=old.active)


@_patient
def overview() -> list[str]:
    """The deployments, with their schedules."""
    with get_client(sync_client=True) as client:
        found = client.read_deployments()
        flows = {each.flow_id: client.read_flow(each.flow_id).name for each in found}
    return sorted(f"{flows[each.flow_id]}/{each.name}   {_schedules(each)}" for each in found)


@_patient
def wait_for_worker(pool: str, service: Service) -> None:
    """Wait until the worker has said that it is there.

    Raises:
        StoreError: it died, or said nothing.
    """
    end = time.monotonic() + WORKER_PATIENCE_S
    with get_client(sync_client=True) as client:
        while not any(str(worker.status).endswith("ONLINE") for worker in client.read_workers_for_work_pool(pool)):
            if not service.alive or time.monotonic() > end:
                raise StoreError(f"the worker did not come up: {last_lines(service.log)} (log: {service.log})")
            time.sleep(0.2)


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    found = client.read_automations_by_name(automation.name)
    if not found:
        client.create_automation(automation)
        return
    client.update_automation(found[0].id, automation)


def _block(client: SyncPrefectClient) -> UUID | None:
    """The notification block that the environment names."""
    named = os.environ.get(BLOCK_VARIABLE)
    if not named:
        return None
    kind, _, name = named.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound:
        raise ConfigError(
            f"{BLOCK_VARIABLE} is {named!r}, and there is no such block; make one in the page under Blocks"
        ) from None


def _schedules(deployment: object) -> str:
    schedules = getattr(deployment, "schedules", [])
    if not schedules:
        return "by hand"
    shown = []
    for each in schedules:
        when = getattr(each.schedule, "cron", None) or f"every {getattr(each.schedule, 'interval', '?')}"
        shown.append(f"{when} ({'on' if each.active else 'off'})")
    return ", ".join(shown)
