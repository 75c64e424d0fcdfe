"""How stages look to Prefect: one task per stage, its progress while it works, its figures when it is finished.

Prefect is the scheduler and the window; the run directory is the truth. A task returns nothing but the path of its
manifest, caches nothing (a stage knows by itself whether it is finished), and its parameters hold no secret, because a
configuration cannot hold one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency

from flows.context import RunContext
from flows.flow_runs import tracked
from flows.prefect_artifacts import publish
from flows.prefect_events import BUDGET_STOPPED, tell
from flows.prefect_progress import shown
from flows.stages import FLOWS
from flows.stages.stage import Stage
from ratify.config import Config
from ratify.errors import BudgetError, SpendingError
from ratify.host_lock import limit_name


def run_group(flow: str, config: Config, round_number: int) -> list[Path]:
    """Run the stages of a flow as Prefect tasks, under the run's lock; the folders of the stages, in order."""
    context, group = RunContext(config, round_number, shown), FLOWS[flow]
    with context.run.lock(), tracked(context.run.path):
        group.check(context)
        return [_submit(stage, context) for stage in group.wanted(context)]


def _submit(stage: Stage, context: RunContext) -> Path:
    run: Path = _run_stage.with_options(name=stage.title, task_run_name=stage.name)(stage.name, context)
    return run


def worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failed stage may be tried again, however many retries somebody has set: a spent budget stays spent."""
    return not isinstance(state.data, SpendingError)


@task(cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=worth_a_retry)
def _run_stage(name: str, context: RunContext) -> Path:
    """One stage: a server or a child process with tens of seconds of work."""
    stage = next(stage for group in FLOWS.values() for stage in group.stages if stage.name == name)
    log = get_run_logger()
    log.info("%s: begun", stage.title)
    try:
        with _slot(stage, context):
            manifest = stage.run(context)
    except BudgetError as error:
        tell(BUDGET_STOPPED, context.config.run.name, stage=name, error=type(error).__name__)
        raise
    log.info("%s: %s (%.1f s)", stage.title, stage.summary(manifest.metrics), manifest.seconds)
    publish(stage, manifest, context)
    return context.stage(name).path


def _slot(stage: Stage, context: RunContext) -> AbstractContextManager[None]:
    """A slot of the concurrency limit `gpu:HOST`, where this machine has GPUs, the stage needs one, and somebody has
    made that limit; runs then queue where the UI shows it. The lock that holds without a server is `host_lock`."""
    name = limit_name()
    if name is None or not stage.needs_device(context.config):
        return nullcontext()
    return concurrency(name, strict=False)
