"""Events of our own on Prefect's bus: what a gate said, a budget that stopped a run, a judge that is unfit, and so on.

Automations listen to them by name (`flows/registration.py`). A payload holds names, hashes and figures; never a
constitution's text, a prompt or a reply, because automations fill templates with it.
"""

from __future__ import annotations

from typing import Any

from prefect.events import emit_event

GATE = "ratify.gate.decided"
"""Payload: decision."""
GATE_REJECTED = "ratify.gate.rejected"
BUDGET_STOPPED = "ratify.budget.stopped"
DRIFT_ALARM = "ratify.drift.alarm"
JUDGE_UNFIT = "ratify.judge.unfit"
EDIT_HELD = "ratify.edit.held"
"""An edited constitution would cost or change more than the limits allow."""
EDIT_APPLIED = "ratify.edit.applied"
APPROVAL_WANTED = "ratify.approval.wanted"
PROMOTED = "ratify.policy.promoted"


def tell(event: str, run: str, **payload: Any) -> None:
    """Put an event about a run on the bus; nothing waits for it."""
    resource = {"prefect.resource.id": f"ratify.run.{run}", "prefect.resource.name": run}
    emit_event(event=event, resource=resource, payload=payload)
