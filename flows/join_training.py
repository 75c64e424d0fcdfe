"""A further machine in a training: the very command of machine 0, with `RATIFY_MACHINE_RANK=1` before it.

Of that command it does the training alone, and of that nothing but computing: no stage, no lock, no manifest, no
Prefect. What was trained lies on machine 0. Left out: starting the command on the other machines, which a shell with
ssh, Slurm or Kubernetes does.
"""

from __future__ import annotations

from collections.abc import Mapping

from flows import console
from flows.context import RunContext
from flows.stages.stage import StageGroup
from flows.stages.train import JOINABLE, on_several_machines
from ratify.errors import InputError
from ratify.progress import progress
from training.devices import MACHINE_RANK, devices_of, machine_rank, told_rank
from training.launch import join
from training.spec import TrainSpec


def joins(context: RunContext, stages: StageGroup) -> bool:
    """Whether this is a further machine, which must not do what machine 0 does.

    Raises:
        InputError: there are not so many machines.
    """
    ranks = [machine_rank(JOINABLE[stage.name].section(context)) for stage in on_several_machines(context, stages)]
    return told_rank() not in (None, "0") or any(ranks)


def join_stages(context: RunContext, stages: StageGroup) -> None:
    """Take part in every training of these stages that goes over several machines and is not finished, in order.

    Raises:
        InputError: there is none.
        StoreError: what they learn from is not here.
    """
    spread = on_several_machines(context, stages)
    if not spread:
        raise InputError(
            f"{MACHINE_RANK} is {told_rank()} and this command trains nothing on several machines: name a file with "
            "num_machines in reward_model, preference or supervised.accelerate_config, or start it on machine 0 alone"
        )
    for stage in spread:
        if stage.finished(context):
            console.skipped(stage.title)
        else:
            join_task(JOINABLE[stage.name].task(context, context.stage(stage.name).path), stage.title)


def join_task(spec: TrainSpec, title: str) -> None:
    """Take part in one training, with progress where machine 0's folder is seen from here."""
    devices, rank = devices_of(spec.section), machine_rank(spec.section)
    with progress(f"{title}, machine {rank} of 0 to {devices.machines - 1}") as display:

        def report(step: int, steps: int, metrics: Mapping[str, object]) -> None:
            display.update(step, steps, str(metrics.get("phase", "")))

        join(spec, report)
    print(f"machine {rank} took part; the result lies on machine 0 in {spec.out}")
