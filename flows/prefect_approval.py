"""Asks a person whether a policy may be promoted, by starting the tiny flow `approve-policy` and not waiting for it.

The round that trained the policy ends and gives its GPU back; the question waits by itself, for as long as it may.
"""

from __future__ import annotations

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
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
        asked = run_deployment(
            DEPLOYMENT, parameters={"run": str(run), "evidence": verdict.evidence}, timeout=0, as_subflow=False,
            idempotency_key=f"{run}:{verdict.evidence}",
        )  # fmt: skip
        assert isinstance(asked, FlowRun), "outside a coroutine the call is not awaited"
    except ObjectNotFound:
        return by_hand
    tell(APPROVAL_WANTED, context.config.run.name, evidence=verdict.evidence[:12], question=asked.name)
    return f"the flow run {asked.name!r} waits for a person; or {by_hand}"
