"""Asks a person whether a policy may be promoted, by starting the tiny flow `approve-policy` and not waiting for it.

The round that trained the policy ends and gives its GPU back; the question waits by itself, for as long as it may.
"""

from __future__ import annotations

from prefect import get_client
from prefect.exceptions import ObjectNotFound

from evaluation.gate_record import read_gate
from flows.context import RunContext
from flows.prefect_events import APPROVAL_WANTED, tell
from flows.stages.gate import refused
from ratify.promotions import Promotions

DEPLOYMENT = "approve-policy/approval"


def ask_person(context: RunContext) -> str | None:
    """Start the question, where the gate says PROMOTE and a person must agree; a sentence about it, or None."""
    verdict = read_gate(context.stage("evaluate").path / "gate.json")
    if not context.config.gate.require_approval or verdict is None or verdict.decision != "PROMOTE":
        return None
    run = context.config.run_dir
    if no := refused(run, verdict.evidence):
        return f"{no.person} refused this policy at {no.time}: {no.reason}"
    if any(event.kind == "promotion" and event.evidence == verdict.evidence for event in Promotions(run).events()):
        return "this policy is promoted already"
    by_hand = f"a person must approve: `ratify promote {run} --by WHO --reason WHY`"
    try:
        with get_client(sync_client=True) as client:
            asked = client.create_flow_run_from_deployment(
                client.read_deployment_by_name(DEPLOYMENT).id,
                parameters={"run": str(run), "evidence": verdict.evidence},
                idempotency_key=f"{run}:{verdict.evidence}",
            )
    except ObjectNotFound:
        return by_hand
    tell(APPROVAL_WANTED, context.config.run.name, evidence=verdict.evidence[:12], question=asked.name)
    return f"the flow run {asked.name!r} waits for a person; or {by_hand}"
