"""Prefect flow `approve-policy`: ask a person whether the newest policy of a run may be promoted.

It holds no GPU and no lock while it waits: started by a deployment it is suspended, its process ends, and the answer in
the page starts it again from the top. Without an answer in time it fails, and nothing is promoted. The answer, with who
and why, goes to the run's `promotions.jsonl` and into the artifact `promotion`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, suspend_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from flows.find_run import run_folder
from flows.prefect_events import PROMOTED, tell
from flows.prefect_tags import name_run
from flows.stages.gate import Approval, gate_run, promote, refuse
from ratify.errors import GateError


class Answer(RunInput):
    """What the form in the page asks."""

    approve: bool = Field(title="Promote it", description="Without this the policy is refused")
    who: str = Field(title="Who", description="Your name, for the history", min_length=1)
    why: str = Field(title="Why", description="A reason that others understand later", min_length=1)


@flow(name="approve-policy", flow_run_name=name_run)
def approve_policy(run: str = "demo", hours: float = 48.0, evidence: str = "") -> State:
    """Wait for a person's answer and do what it says. No answer in time means not promoted.

    Args:
        run: Folder of the run, or its name under runs/.
        hours: Time to answer.
        evidence: Hash of the figures that are asked about; empty is the newest evaluation.
    """
    folder = run_folder(run)
    verdict = gate_run(folder)
    if verdict.decision != "PROMOTE":
        raise GateError(f"the gate says {verdict.decision}, so there is nothing to approve")
    if evidence and evidence != verdict.evidence:
        raise GateError(f"{folder} was evaluated again since this question was asked; nothing was promoted")
    answer = suspend_flow_run(wait_for_input=Answer, timeout=int(hours * 3600), key="answer")
    said = Approval(answer.who, answer.why, verdict.evidence)
    if not answer.approve:
        refuse(folder, said)
        return _told(folder, said, "refused")
    promote(folder, None, said)
    tell(PROMOTED, folder.name, by=answer.who)
    return _told(folder, said, "promoted")


def _told(folder: Path, said: Approval, what: str) -> State:
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = {"who": said.who, "when": when, "why": said.why, "evaluation": said.evidence[:12]}
    table = "\n".join(f"| {name} | {_plain(text)} |" for name, text in rows.items())
    create_markdown_artifact(
        key="promotion", description=f"run {folder.name}", markdown=f"## {what}\n\n| | |\n|---|---|\n{table}\n"
    )
    return Completed(name=what.capitalize(), message=f"{said.who}: {said.why}")


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
