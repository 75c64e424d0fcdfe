"""Flow runs that died without telling Prefect: `kill -9` leaves them "Running" for ever, so the next start marks them.

Every flow run writes who it is into `flow-runs/` of its run's folder before it works. A later flow run of the same run
reads these records, asks Prefect about those whose process is gone, and marks what never ended as Crashed, with its
task runs. Only a dead process of this machine is touched; what ran elsewhere is left to that machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from ratify.errors import StoreError
from ratify.files import write_text
from ratify.processes import ProcessMark, is_alive, this_process

FOLDER = "flow-runs"
"""In the run's folder."""


class FlowRunRecord(BaseModel):
    """One flow run and the process that runs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    process: ProcessMark


class Reconciled(NamedTuple):
    """What a look at the records led to."""

    crashed: list[str]
    """Names of the flow runs that were marked."""
    unknown: list[str]
    """Names of those that this Prefect server has never heard of."""


@contextmanager
def tracked(run: Path) -> Iterator[None]:
    """Record the flow run that is being run, after marking those before it that died."""
    from prefect.runtime import flow_run

    if flow_run.id is None:
        yield
        return
    reconcile(run)
    path = run / FOLDER / f"{flow_run.id}.json"
    record = FlowRunRecord(id=flow_run.id, name=str(flow_run.name), process=this_process())
    write_text(path, record.model_dump_json(indent=2) + "\n")
    yield
    # After an exception it stays: perhaps Prefect could not be told.
    path.unlink(missing_ok=True)


def records(run: Path) -> list[FlowRunRecord]:
    """The records in a run's folder, by name of the file.

    Raises:
        StoreError: one cannot be read.
    """
    found = []
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            found.append(FlowRunRecord.model_validate_json(path.read_text(encoding="utf-8")))
        except (OSError, ValidationError):
            raise StoreError(f"{path} is no record of a flow run; delete it") from None
    return found


def dead(run: Path) -> list[FlowRunRecord]:
    """The records whose process is gone from this machine."""
    return [record for record in records(run) if is_alive(record.process) is False]


def recorded_by_this_process(run: Path) -> bool:
    """Whether a flow run of this very process has begun to work."""
    return any(record.process.pid == os.getpid() and is_alive(record.process) for record in records(run))


def reconcile(run: Path) -> Reconciled:
    """Mark the flow runs that died as Crashed, with their task runs, and forget their records.

    A record that Prefect's server does not know stays: it may belong to another server.
    """
    gone = dead(run)
    crashed, unknown = [], []
    if gone:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            for record in gone:
                marked = _mark(client, record)
                if marked is None:
                    unknown.append(record.name)
                    continue
                (run / FOLDER / f"{record.id}.json").unlink(missing_ok=True)
                crashed += [record.name] * marked
    return Reconciled(crashed, unknown)


def _mark(client: object, record: FlowRunRecord) -> bool | None:
    """Whether it had to be marked; None when the server does not know it."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    assert isinstance(client, SyncPrefectClient)
    run = UUID(record.id)
    try:
        state = client.read_flow_run(run).state
    except ObjectNotFound:
        return None
    why = f"process {record.process.pid} on {record.process.host} is gone"
    for task in client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run]))):
        if task.state is None or not task.state.is_final():
            client.set_task_run_state(task.id, Crashed(message=why), force=True)
    if state is not None and state.is_final():
        return False
    client.set_flow_run_state(run, Crashed(message=why), force=True)
    return True
