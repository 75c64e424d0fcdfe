"""How many processes train, on which machines, and what each holds: a copy of the weights, or shards of them
(`sharding`). No torch.

`processes` alone means a copy each on one machine. A file for `accelerate launch` may say several machines, FSDP2, or
DeepSpeed's ZeRO (`zero`).
On each machine a user starts the same command, told its number by `RATIFY_MACHINE_RANK`; that is the only difference.
Left out: tensor, sequence and pipeline parallelism; starting anything on another machine.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ratify.device_section import DeviceSection
from ratify.errors import InputError
from training.spec import TrainSpec

MACHINE_RANK = "RATIFY_MACHINE_RANK"
"""Which of several machines this is, from 0. It goes before `machine_rank` of the file, which all can then share."""
DEFAULT_PORT = 29500
"""Where machine 0 is met unless the file has `main_process_port`; accelerate's own."""
DEEPSPEED = "0.19.8"
"""The version that was tried."""
_COPIES = ("MULTI_GPU", "MULTI_CPU", "NO")
_WHOLE_WEIGHTS = ("policy_gradient", "score")
"""Tasks that sample or score while they run."""


class Devices(NamedTuple):
    """What a file for accelerate asks for."""

    processes: int
    """Over all machines."""
    machines: int = 1
    sharded: bool = False
    rank: int = 0
    """`machine_rank` of the file."""
    address: str = ""
    """Of machine 0, as the others reach it; empty where there is one."""
    port: int = DEFAULT_PORT
    zero_stage: int = 0
    """DeepSpeed's; 0 without it."""


def read_accelerate_config(path: Path) -> Devices:
    """The parts of a file for `accelerate launch` that matter here.

    Raises:
        InputError: no such file, no YAML, a way to distribute that is not supported, or machines that cannot meet.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"accelerate_config {path} cannot be read: {first}") from None
    kind = found.get("distributed_type") if isinstance(found, dict) else None
    if kind not in ("FSDP", "DEEPSPEED", *_COPIES):
        raise InputError(f"{path}: distributed_type is {kind!r}; choose FSDP, DEEPSPEED, {', '.join(_COPIES)}")
    if kind == "FSDP" and _part(found, "fsdp_config").get("fsdp_version") != 2:
        raise InputError(f"{path}: fsdp_config.fsdp_version must be 2")
    devices = Devices(
        processes=_whole(path, found, "num_processes", 1, least=1),
        machines=_whole(path, found, "num_machines", 1, least=1),
        sharded=kind == "FSDP",
        rank=_whole(path, found, "machine_rank", 0, least=0),
        address=str(found.get("main_process_ip") or ""),
        port=_whole(path, found, "main_process_port", DEFAULT_PORT, least=0),
        zero_stage=_zero_stage(path, _part(found, "deepspeed_config")) if kind == "DEEPSPEED" else 0,
    )
    if devices.machines > 1:
        _check_machines(path, devices)
    return devices


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _zero_stage(path: Path, settings: Mapping[str, Any]) -> int:
    stage = settings.get("zero_stage")
    if stage not in (1, 2):
        raise InputError(
            f"{path}: deepspeed_config.zero_stage is {stage!r}; give 1 or 2, or cut the weights too with "
            "configs/accelerate/fsdp2.yaml"
        )
    for name, value in settings.items():
        if name == "deepspeed_config_file" or (name.startswith("offload") and value not in (None, "none")):
            raise InputError(f"{path}: deepspeed_config.{name} is set, which nothing here follows; remove it")
    return int(stage)


def _whole(path: Path, found: Mapping[str, Any], name: str, default: int, *, least: int) -> int:
    value = found.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{path}: {name} is {value!r}; give a whole number from {least}")
    return value


def _check_machines(path: Path, devices: Devices) -> None:
    processes, machines = devices.processes, devices.machines
    if processes % machines:
        raise InputError(
            f"{path}: num_processes is {processes}, counted over all machines, and num_machines {machines}: every "
            "machine runs as many, so give a multiple"
        )
    if not devices.address:
        raise InputError(
            f"{path}: num_machines is {machines} and main_process_ip is missing: name the address at which the others "
            "reach machine 0"
        )
    if devices.port == 0:
        raise InputError(f"{path}: main_process_port is 0, which nobody on another machine can know; name a free port")


def devices_of(section: DeviceSection) -> Devices:
    """What a section asks for.

    Raises:
        InputError: its file cannot be used.
    """
    if section.accelerate_config is None:
        return Devices(section.processes)
    return read_accelerate_config(section.accelerate_config)


def told_rank() -> str | None:
    """What the environment says of this machine's number."""
    return os.environ.get(MACHINE_RANK) or None


def machine_rank(section: DeviceSection) -> int:
    """Which of the section's machines this is, from 0.

    Raises:
        InputError: there are not so many, or it is no number.
    """
    devices, told = devices_of(section), told_rank()
    rank = devices.rank if told is None else int(told) if told.isdecimal() else -1
    if 0 <= rank < devices.machines:
        return rank
    where = f"machine_rank is {devices.rank}" if told is None else f"{MACHINE_RANK} is {told!r}"
    named = section.accelerate_config or "a section without accelerate_config"
    if devices.machines == 1:
        raise InputError(f"{where}, and {named} has 1 machine: leave it out, or name a file with num_machines")
    raise InputError(f"{where}, and {named} has {devices.machines} machines: give 0 to {devices.machines - 1}")


def own_folder(spec: TrainSpec) -> Path:
    """Where this machine keeps its log and its fault: the task's folder, or on a further machine one beside it.

    The task's folder is machine 0's alone, also where machines share a file system.
    """
    rank = machine_rank(spec.section)
    return spec.out.with_name(f"{spec.out.name}.machine-{rank}") if rank else spec.out


def check_devices(task: str, section: DeviceSection) -> None:
    """Refuse what cannot work before a process is started.

    Raises:
        InputError: the file cannot be used, `processes` is set beside it, this machine is none of its machines, or the
            task cannot be done so.
    """
    devices, path = devices_of(section), section.accelerate_config
    machine_rank(section)
    if path is None:
        return
    if section.processes > 1:
        raise InputError(
            f"{task}.processes is {section.processes} and {path} names num_processes = {devices.processes}: leave "
            "processes at 1"
        )
    if devices.sharded and task in _WHOLE_WEIGHTS:
        raise InputError(
            f"{task} samples or scores with whole weights, which FSDP leaves to no process: use "
            "configs/accelerate/ddp.yaml"
        )
    if devices.zero_stage and task in _WHOLE_WEIGHTS:
        raise InputError(f"{task} has not been made to work with DeepSpeed: use configs/accelerate/ddp.yaml")
    if devices.zero_stage and importlib.util.find_spec("deepspeed") is None:
        raise InputError(
            f"{path} asks for DeepSpeed, which is not installed: `DS_BUILD_OPS=0 pip install deepspeed=={DEEPSPEED}`, "
            "or use configs/accelerate/fsdp2.yaml"
        )
    if devices.machines > 1 and task in _WHOLE_WEIGHTS:
        raise InputError(f"{task} samples or scores on one machine: use a file with num_machines: 1")


def launcher(section: DeviceSection) -> list[str]:
    """The module and options that start this machine's workers; empty where one process is enough."""
    devices = devices_of(section)
    if devices.processes == 1:
        return []
    import torch

    # accelerate's launcher would prepare its own use of DeepSpeed, and needs MPI on CPUs.
    ours = devices.zero_stage or not torch.cuda.is_available()
    return torchrun_command(section) if ours else accelerate_command(section)


def torchrun_command(section: DeviceSection) -> list[str]:
    """By torch's own launcher."""
    devices = devices_of(section)
    each = ["--nproc-per-node", str(devices.processes // devices.machines)]
    if devices.machines == 1:
        return ["torch.distributed.run", "--standalone", *each]
    meeting = ["--master-addr", devices.address, "--master-port", str(devices.port)]
    place = ["--nnodes", str(devices.machines), "--node-rank", str(machine_rank(section))]
    return ["torch.distributed.run", *place, *each, *meeting]


def accelerate_command(section: DeviceSection) -> list[str]:
    """For GPUs."""
    devices, path = devices_of(section), section.accelerate_config
    options = ["--multi_gpu"] if path is None else ["--config_file", str(path)]
    if devices.machines == 1:
        options += ["--num_processes", str(devices.processes), "--num_machines", "1", "--main_process_port", "0"]
    else:
        options += ["--machine_rank", str(machine_rank(section)), "--main_process_port", str(devices.port)]
    return ["accelerate.commands.launch", *options]
