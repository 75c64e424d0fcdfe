"""Prefect flow `check-drift`: have judge, prompts, reward model or policy of a run moved since it began to watch them?

Does what `ratify drift` does, shows it in the artifact `drift`, and tells an alarm as an event. Left out: the alarms
themselves (`evaluation/*_drift.py`), and deciding what follows from one.
"""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.find_run import run_folder
from flows.prefect_artifacts import evaluated
from flows.prefect_events import DRIFT_ALARM, tell
from flows.prefect_tags import name_run, tag_run
from flows.stage_artifacts import drift_markdown
from flows.stages import drift
from flows.stages.gate import run_config


@flow(name="check-drift", flow_run_name=name_run)
def check_drift(run: str = "demo", ask: bool = True) -> State:
    """Look for drift. An alarm is an event and a named state, not a failure of the flow.

    Args:
        run: Folder of the run, or its name under runs/.
        ask: Ask the judge about gold again; off, its history is read and nobody is asked.
    """
    folder = run_folder(run)
    tag_run(run_config(folder))
    report = drift.check_drift(folder, ask=ask)
    where = f"run {report.run}, round {report.round}"
    create_markdown_artifact(key="drift", description=where, markdown=drift_markdown(evaluated(folder), report))
    alarms = [f"{reading.part}/{reading.name}" for reading in report.readings if reading.state == "drift"]
    if alarms:
        tell(DRIFT_ALARM, report.run, round=report.round, alarms=alarms)
    return Completed(name="Drift" if alarms else None, message=f"{report.state}: {', '.join(alarms) or 'no alarm'}")
