"""Training over several machines: two launchers on 127.0.0.1 that share no folder, and what they refuse."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.run
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed.launcher.api import elastic_launch

from ratify.errors import InputError
from ratify.sections import OptimiserSection, PreferenceSection
from training import child, launch
from training.devices import MACHINE_RANK, accelerate_command, check_devices, machine_rank, own_folder, torchrun_command
from training.engine import Engine
from training.meeting import Start, check_starts
from training.metrics import read_metrics
from training.spec import PreferenceTask

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "accelerate"
KINDS = {
    "copies": "distributed_type: MULTI_GPU\n",
    "shards": "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n",
}
Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def devices_file(folder: Path, kind: str, machines: int) -> Path:
    path = folder / f"{kind}-{machines}.yaml"
    meeting = f"num_machines: {machines}\nmain_process_ip: 127.0.0.1\nmain_process_port: {free_port()}\n"
    path.write_text(KINDS[kind] + "num_processes: 2\n" + meeting * (machines > 1))
    return path


def make_spec(data: Path, out: Path, model: Path, devices: Path) -> PreferenceTask:
    section = PreferenceSection(
        learning_rate=5e-3, batch_prompts=3, threads=1, epochs=2, save_every_steps=1, validation_fraction=0.25,
        validate_every_steps=1, accelerate_config=devices,
    )  # fmt: skip
    return PreferenceTask(data=data, out=out, model=str(model), section=section)


def work(path: Path, die_after: int | None) -> None:
    """What a worker of torch's launcher does; its exit code lies beside its specification."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else accelerate warns, and here a warning is an error
    if die_after is not None:
        save, saved = Engine.save, []

        def save_and_die(*arguments: Any) -> None:
            save(*arguments)
            saved.append(1)
            if len(saved) == die_after:
                os._exit(1)

        Engine.save = save_and_die  # type: ignore[method-assign]
    code = child.main([str(path)])
    path.with_name(f"code-{os.environ['LOCAL_RANK']}").write_text(str(code))


def machine(rank: int, spec: PreferenceTask, die_after: int | None) -> None:
    """One machine: the launcher's own options, with functions that are forked instead of interpreters."""
    os.environ[MACHINE_RANK] = str(rank)
    folder = own_folder(spec)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json())
    options = torchrun_command(spec.section)[1:]
    if "--standalone" in options:  # which torch expands where it starts interpreters
        options = [*options[1:], "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    config, _, _ = torch.distributed.run.config_from_args(torch.distributed.run.parse_args([*options, "child"]))
    config.start_method = "fork"
    elastic_launch(config, work)(path, die_after)


def start(specs: Sequence[PreferenceTask], die_after: int | None = None) -> list[int | None]:
    """Start each specification on a machine of its own and wait; the launchers' exit codes."""
    context = multiprocessing.get_context("fork")
    machines = [context.Process(target=machine, args=(rank, spec, die_after)) for rank, spec in enumerate(specs)]
    for each in machines:
        each.start()
    for each in machines:
        each.join(300)
    return [each.exitcode for each in machines]


def codes(spec: PreferenceTask, rank: int) -> list[int]:
    folder = spec.out.with_name(f"{spec.out.name}.machine-{rank}") if rank else spec.out
    return [int(path.read_text()) for path in sorted(folder.glob("code-*"))]


def steps(spec: PreferenceTask) -> list[dict[str, Any]]:
    found = [m for m in read_metrics(spec.out / "metrics.jsonl") if "loss" in m]
    return [{name: value for name, value in m.items() if name != "seconds"} for m in found]


@pytest.mark.parametrize("kind", KINDS)
def test_two_machines_learn_bit_for_bit_what_one_does_and_resume(
    kind: str, policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    """Machines share the model's folder and the data alone; both are stopped in the middle and started again."""
    data = write_rows(learnable_rows(9))
    one = make_spec(data, tmp_path / "one" / "out", policy_folder, devices_file(tmp_path, kind, 1))
    assert start([one]) == [0] and codes(one, 0) == [0, 0]
    devices = devices_file(tmp_path, kind, 2)
    both = [make_spec(data, tmp_path / name / "out", policy_folder, devices) for name in ("first", "second")]
    assert all(start(both, die_after=2)) and codes(both[0], 0) == []
    assert [path.name for path in (both[0].out / "checkpoint").glob("step-*")] == ["step-00000002"]
    assert start(both) == [0, 0] and codes(both[0], 0) == codes(both[1], 1) == [0]
    assert steps(both[0]) == steps(one) and len(steps(one)) == 6
    models = [(spec.out / "model" / "model.safetensors").read_bytes() for spec in (one, both[0])]
    assert models[0] == models[1]
    results = [json.loads((spec.out / "result.json").read_text())["metrics"] for spec in (one, both[0])]
    assert results[0]["validation/best_step"] == results[1]["validation/best_step"] > 0
    assert results[0]["validation/accuracy"] == results[1]["validation/accuracy"]
    assert not both[1].out.exists(), "a further machine leaves nothing but its log"


def test_a_machine_with_other_data_stops_all_with_one_sentence(
    policy_folder: Path, learnable_rows: Rows, write_rows: Write, tmp_path: Path
) -> None:
    data = [write_rows(learnable_rows(6, seed=seed), f"{seed}.jsonl") for seed in (0, 1)]
    devices = devices_file(tmp_path, "copies", 2)
    both = [make_spec(file, tmp_path / file.stem / "out", policy_folder, devices) for file in data]
    start(both)
    assert codes(both[0], 0) == codes(both[1], 1) == [InputError.exit_code]
    told = [json.loads((tmp_path / name / "error.json").read_text()) for name in ("0/out", "1/out.machine-1")]
    assert told[0] == told[1]
    assert told[0]["message"].startswith("machine 1 is about to train something else than machine 0: data; give both")
    assert not (both[0].out / "checkpoint").exists()


def test_differences_are_named_with_both_values() -> None:
    first = Start(0, {"data": ["a"], "preference.beta": 0.1, "checkout": "c1"})
    check_starts([first, first._replace(machine=1)])
    other = Start(1, {"data": ["b"], "preference.beta": 0.2, "checkout": "c1"})
    with pytest.raises(InputError, match=r"machine 1 .* machine 0: data, preference\.beta \(0\.2 instead of 0\.1\);"):
        check_starts([first, first, other])


def test_a_fault_is_everybodys_and_names_its_machine() -> None:
    fine, broken = Start(0, {"data": ["a"]}), Start(1, {}, "pairs.jsonl: no such data file")
    with pytest.raises(InputError, match=r"^machine 1: pairs\.jsonl: no such data file$"):
        check_starts([fine, broken])
    with pytest.raises(InputError, match=r"^pairs\.jsonl: no such data file$"):
        check_starts([broken._replace(machine=0)] * 2)


TWO = "distributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 4\n"
MET = TWO + "main_process_ip: 10.0.0.1\n"


@pytest.mark.parametrize(
    ("text", "told", "words"),
    [
        (TWO, None, "num_machines is 2 and main_process_ip is missing"),
        (MET + "main_process_port: 0\n", None, "main_process_port is 0, which nobody"),
        (MET.replace("4", "3"), None, "num_processes is 3, counted over all machines, and num_machines 2"),
        (MET.replace("4", "many"), None, "num_processes is 'many'; give a whole number from 1"),
        (MET + "machine_rank: 2\n", None, "machine_rank is 2, and .* has 2 machines: give 0 to 1"),
        (MET, "2", "RATIFY_MACHINE_RANK is '2', and .* has 2 machines: give 0 to 1"),
        (MET, "-1", "RATIFY_MACHINE_RANK is '-1'"),
        (MET, "first", "RATIFY_MACHINE_RANK is 'first'"),
        ("distributed_type: NO\n", "1", "has 1 machine: "),
    ],
)
def test_machines_that_cannot_meet_are_refused(
    text: str, told: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    if told is not None:
        monkeypatch.setenv(MACHINE_RANK, told)
    with pytest.raises(InputError, match=words):
        check_devices("preference", PreferenceSection(accelerate_config=path))


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(MET + "machine_rank: 1\n")
    section = OptimiserSection(accelerate_config=path)
    assert machine_rank(section) == 1
    spec = PreferenceTask(data=tmp_path, out=tmp_path / "out", model="m", section=PreferenceSection())
    spec = spec.model_copy(update={"section": PreferenceSection(accelerate_config=path)})
    assert own_folder(spec) == tmp_path / "out.machine-1"
    with pytest.raises(InputError, match="this is machine 1 .* can only join"):
        launch.launch(spec)
    monkeypatch.setenv(MACHINE_RANK, "0")
    assert machine_rank(section) == 0 and own_folder(spec) == tmp_path / "out"
    with pytest.raises(InputError, match="policy_gradient samples or scores on one machine"):
        check_devices("policy_gradient", section)


def test_accelerate_is_told_where_the_machines_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """By accelerate's own parser and the environment that it makes for torch's launcher; no GPU is asked."""
    monkeypatch.setenv(MACHINE_RANK, "1")
    command = accelerate_command(OptimiserSection(accelerate_config=CONFIGS / "two-machines.yaml"))
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args([*command[1:], "-m", "training.child"]))
    prepare_multi_gpu_env(arguments)
    assert (arguments.nnodes, arguments.node_rank, arguments.nproc_per_node) == ("2", 1, "2")
    assert (arguments.rdzv_backend, arguments.rdzv_endpoint) == ("static", "10.0.0.1:29500")
    assert arguments.use_fsdp and arguments.num_processes == 4
