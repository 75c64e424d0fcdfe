"""Processes that outlive the command which starts them: who they are, whether they still live, and how they end.

`.ratify/services.json` says what was started. A process is known by its id, by the kernel's clock at its start and by
the boot, so that nothing else is ever stopped after its id was given away. Every service leads a session of its own:
ending one ends what it started. Left out: which services there are (`flows/local_stack.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ratify.errors import ConfigError, StoreError
from ratify.files import write_text
from ratify.processes import boot_id, start_time, stat_fields

STATE_FILE = "services.json"
GRACE_S = 25.0
"""Seconds that a service gets between SIGTERM and SIGKILL."""
KILLED_S = 10.0
"""Seconds that the kernel gets to take a killed one away."""
POLL_S = 0.05
LOOPBACK = "127.0.0.1"


class Service(BaseModel):
    """One process that was started, as the state file keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    pid: int
    started: int
    """Clock ticks between the boot and its start."""
    boot: str
    log: str
    port: int | None = None

    @property
    def alive(self) -> bool:
        """Is exactly this process still there?"""
        return self.boot == boot_id() and start_time(self.pid) == self.started


class Stack(BaseModel):
    """What runs now; the whole state file."""

    model_config = ConfigDict(extra="forbid")

    format: str = "ratify.services/1"
    services: dict[str, Service] = {}

    def running(self, name: str) -> Service | None:
        """The service of that name, if it lives."""
        service = self.services.get(name)
        return service if service and service.alive else None

    def port(self, name: str) -> int | None:
        """The port that a service has or had, so that it comes back where it was."""
        service = self.services.get(name)
        return service.port if service else None


def read_stack(folder: Path) -> Stack:
    """What the state file says; an empty stack without one.

    Raises:
        StoreError: it is of another version.
    """
    path = folder / STATE_FILE
    try:
        return Stack.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Stack()
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path} is not a state of this version; stop the services in it, then delete it") from error


def write_stack(folder: Path, stack: Stack) -> None:
    """Keep what runs."""
    write_text(folder / STATE_FILE, json.dumps(stack.model_dump(), indent=2) + "\n")


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """One command at a time starts or stops services.

    Raises:
        StoreError: another one is at it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"another command is starting or stopping the services of {folder}; wait for it") from None
        yield


def start(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str], port: int | None = None
) -> Service:
    """Start a service in a session of its own, its output in `<name>.log`; keeps no hold on it."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=dict(environment), start_new_session=True,
        )  # fmt: skip
    process.returncode = 0  # it lives on after us; without this Popen warns when it is collected
    started = start_time(process.pid)
    return Service(name=name, pid=process.pid, started=started or 0, boot=boot_id(), log=str(log), port=port)


def stop(service: Service, grace_s: float = GRACE_S) -> bool:
    """End a service and what it started: SIGTERM, then SIGKILL. False when it was gone already."""
    if not service.alive:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, signal.SIGTERM)
        _wait_for_group(service.pid, grace_s)
        os.killpg(service.pid, signal.SIGKILL)
        _wait_for_group(service.pid, KILLED_S)
    return True


def free_port(wanted: int | None = None) -> int:
    """`wanted` if nobody listens there, else any free port of 127.0.0.1."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((LOOPBACK, port))
            return int(trial.getsockname()[1])
    raise ConfigError("no port of 127.0.0.1 is free")


def last_lines(log: str, count: int = 5) -> str:
    """The end of a service's log, for a fault's sentence."""
    with contextlib.suppress(OSError):
        lines = Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-count:] if line.strip())
    return ""


def _wait_for_group(leader: int, most_s: float) -> None:
    end = time.monotonic() + most_s
    while _group_alive(leader) and time.monotonic() < end:
        time.sleep(POLL_S)


def _group_alive(leader: int) -> bool:
    """Does any process of the session's first group live? Zombies do not count: somebody else has to collect them."""
    for folder in Path("/proc").glob("[0-9]*"):
        fields = stat_fields(int(folder.name))
        if fields and fields[0] != "Z" and int(fields[2]) == leader:
            return True
    return False
