"""Prefect flow `clean-runs`: what is proven to be unneeded, listed; removed only when the form says so.

Of runs that is what `flows/stages/leftovers.py` finds. Of Prefect's server it is flow runs that ended long ago: their
results lie in the run directories, which are the truth. Events are the server's own to forget, after seven days.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect import flow, get_client, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, State
from prefect.states import Completed

from flows.stages.leftovers import clean

MOST_ROWS = 100
PAGE = 200


@flow(name="clean-runs", flow_run_name="clean {runs}")
def clean_runs(runs: str = "runs", keep_days: float = 30, remove: bool = False) -> State:
    """List what may go; with `remove` it goes.

    Args:
        runs: The folder of runs.
        keep_days: Days that logs, caches and Prefect's flow runs stay.
        remove: Off: only list what would go.
    """
    found, passed = clean(Path(runs), keep_days, remove=remove)
    old = old_flow_runs(keep_days, remove=remove)
    for sentence in passed:
        get_run_logger().info("passed over: %s", sentence)
    rows = [{"what": str(each.path), "bytes": f"{each.size:,}", "why": each.why} for each in found[:MOST_ROWS]]
    rows.append({"what": f"{old:,} flow runs in Prefect", "bytes": "", "why": f"ended over {keep_days:g} days ago"})
    done = "removed" if remove else "would go"
    create_table_artifact(key="cleanup", description=f"{runs}: {done}", table=rows)
    size = sum(each.size for each in found)
    return Completed(message=f"{len(found):,} things, {size:,} bytes, and {old:,} flow runs: {done}")


def old_flow_runs(keep_days: float, *, remove: bool) -> int:
    """How many flow runs ended before the limit; with `remove` they are deleted, page by page."""
    wanted = FlowRunFilter(
        end_time=FlowRunFilterEndTime(before_=datetime.now(UTC) - timedelta(days=keep_days)),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
    )
    count = 0
    with get_client(sync_client=True) as client:
        while page := client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=0 if remove else count):
            for run in page if remove else ():
                client.delete_flow_run(run.id)
            count += len(page)
    return count
