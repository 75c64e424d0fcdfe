"""How many processes train and what each holds: a copy of the weights, or shards of them (`sharding`). No torch.

`processes` alone means a copy each on one machine. A file for `accelerate launch` may say several machines, or FSDP2.
Left out: DeepSpeed, whose step is part of its backward pass, so that neither a broken loss nor a KL limit could stop an
update; FSDP2 shards the same things. Tensor, sequence and pipeline parallelism.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ratify.errors import InputError
from ratify.sections import OptimiserSection
from training.spec import PolicyGradientTask, ScoreTask, TrainSpec

_COPIES = ("MULTI_GPU", "MULTI_CPU", "NO")


class Devices(NamedTuple):
    """What a file for accelerate asks for."""

    processes: int
    """Over all machines."""
    machines: int
    sharded: bool


def read_accelerate_config(path: Path) -> Devices:
    """The parts of a file for `accelerate launch` that matter here.

    Raises:
        InputError: no such file, no YAML, or a way to distribute that is not supported.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"accelerate_config {path} cannot be read: {first}") from None
    kind = found.get("distributed_type") if isinstance(found, dict) else None
    if kind == "DEEPSPEED":
        raise InputError(
            f"{path}: distributed_type is DEEPSPEED, which steps inside its backward pass, before a loss that is no "
            "number or a KL limit could stop it; use configs/accelerate/fsdp2.yaml, which shards the same things"
        )
    if kind != "FSDP" and kind not in _COPIES:
        raise InputError(f"{path}: distributed_type is {kind!r}; choose FSDP, {', '.join(_COPIES)}")
    if kind == "FSDP" and found.get("fsdp_config", {}).get("fsdp_version") != 2:
        raise InputError(f"{path}: fsdp_config.fsdp_version must be 2")
    return Devices(int(found.get("num_processes", 1)), int(found.get("num_machines", 1)), kind == "FSDP")


def shards_weights(section: OptimiserSection) -> bool:
    """Whether each process holds shards of what it trains."""
    return section.accelerate_config is not None and read_accelerate_config(section.accelerate_config).sharded


def check_devices(spec: TrainSpec) -> None:
    """Refuse what cannot work before a process is started.

    Raises:
        InputError: the file cannot be used, `processes` is set beside it, or the task cannot be sharded.
    """
    section = spec.section
    if section.accelerate_config is None:
        return
    devices = read_accelerate_config(section.accelerate_config)
    if section.processes > 1:
        raise InputError(
            f"{spec.task}.processes is {section.processes} and {section.accelerate_config} names num_processes = "
            f"{devices.processes}: leave processes at 1"
        )
    if devices.sharded and isinstance(spec, PolicyGradientTask | ScoreTask):
        raise InputError(
            f"{spec.task} samples or scores with whole weights, which FSDP leaves to no process: use "
            "configs/accelerate/ddp.yaml"
        )


def launcher(section: OptimiserSection) -> list[str]:
    """The module and options that start several workers; empty where one process is enough."""
    devices, options = Devices(section.processes, 1, False), ["--multi_gpu"]
    if section.accelerate_config is not None:
        devices = read_accelerate_config(section.accelerate_config)
        options = ["--config_file", str(section.accelerate_config)]
    if devices.processes == 1:
        return []
    import torch

    if not torch.cuda.is_available():
        return ["torch.distributed.run", "--standalone", "--nproc-per-node", str(devices.processes)]
    if devices.machines == 1:
        options += ["--num_processes", str(devices.processes), "--num_machines", "1", "--main_process_port", "0"]
    return ["accelerate.commands.launch", *options]
