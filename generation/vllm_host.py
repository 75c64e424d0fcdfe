"""The process that imports vLLM once and forks every managed server from there; run by path, never imported.

Importing vLLM costs some fourteen seconds of processor time, and a plain start pays it three or four times: in the
API server, in a child that inspects the model class, in the engine core and in its worker. Here it is paid once per
run, before the first server is wanted; a server is then a fork that needs a few seconds. On a GPU the API server
alone is forked and vLLM starts its own processes as ever, because CUDA does not survive a fork; the two patches below
are for the CPU only, and a vLLM that has renamed what they touch merely starts more slowly.

It is also the guard. It reads commands from a pipe of its parent, so the parent's death, kill -9 included, ends the
pipe and with it every server; a second look at the parent's process id covers a pipe that some other child keeps
open; and each forked process asks the kernel to die with its own parent, which covers the death of this one.

Commands and events are JSON lines.
  in:  {"op": "start", "id", "args", "log", "threads"}, {"op": "stop", "id"}
  out: {"event": "warm"}, {"event": "unusable", "reason"}, {"event": "started", "id", "pid"},
       {"event": "exited", "id", "status"}
It uses the standard library and vLLM alone, because it runs in the environment that holds vLLM. Left out: any policy
about models, ports or time limits, which is `generation.engine`'s.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import sys
import time
import traceback
from typing import Any, NamedTuple, NoReturn

SERVER = "vllm.entrypoints.openai.api_server"
WARM_IMPORTS = ("vllm.v1.engine.core", "vllm.v1.engine.async_llm", "vllm.v1.executor.uniproc_executor")
CPU_IMPORTS = ("vllm.v1.worker.cpu_worker",)
PARALLEL_FLAGS = ("--distributed-executor-backend", "--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp")
MEMORY_FLAGS = ("--kv-cache-memory-bytes", "--gpu-memory-utilization")
CHUNK_FLAGS = ("--no-enable-chunked-prefill", "--enable-chunked-prefill")
DEFAULT_CACHE_BYTES = 4 << 30
PR_SET_PDEATHSIG = 1
GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL."""
LOOK_EVERY_S = 0.2


class Server(NamedTuple):
    """A forked server, the leader of its own process group."""

    pid: int
    kill_at: float | None
    """When SIGKILL follows the SIGTERM already sent; None while it is wanted."""


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def import_vllm() -> bool:
    """Import all that a server needs; returns whether vLLM runs on the CPU."""
    # Collections during an import find nothing to free, and frozen objects stay shared with the forked servers.
    gc.disable()
    importlib.import_module(SERVER)
    for name in WARM_IMPORTS:
        _import_if_there(name)
    on_cpu = bool(importlib.import_module("vllm.platforms").current_platform.is_cpu())
    if on_cpu:
        for name in CPU_IMPORTS:
            _import_if_there(name)
        _start_by_fork()
    gc.enable()
    gc.freeze()
    return on_cpu


def _import_if_there(name: str) -> None:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)


def _start_by_fork() -> None:
    """Fork the engine core instead of spawning it, inspect model classes in place: each saves an import of vLLM."""
    with contextlib.suppress(ImportError):
        utils: Any = importlib.import_module("vllm.v1.engine.utils")
        if hasattr(utils, "get_mp_context"):
            utils.get_mp_context = lambda: multiprocessing.get_context("fork")
    with contextlib.suppress(ImportError):
        registry: Any = importlib.import_module("vllm.model_executor.models.registry")
        if hasattr(registry, "_run_in_subprocess"):
            registry._run_in_subprocess = lambda inspect: inspect()


def serve_here(command: dict[str, Any], on_cpu: bool) -> NoReturn:
    """In the forked child: become the server; never returns."""
    status = 1
    try:
        os.setsid()
        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = [SERVER, *command["args"]]
        if on_cpu:
            _limit_memory()
            _keep_prefills_whole()
            if _has_flag("--enforce-eager"):
                _compile_nothing()
            if command["threads"] is not None:
                _use_threads(command["threads"])
        runpy.run_module(SERVER, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _limit_memory() -> None:
    """On a CPU vLLM would take 92 % of the machine's memory, which leaves none for a second server or for training."""
    if not _has_flag(*MEMORY_FLAGS):
        # psutil comes with vLLM; the system's own count of free pages leaves out what caches would give back.
        available = importlib.import_module("psutil").virtual_memory().available
        sys.argv += ["--kv-cache-memory-bytes", str(min(DEFAULT_CACHE_BYTES, available // 4))]


def _keep_prefills_whole() -> None:
    """A seeded prompt split over two batches kills vLLM 0.32, which then rewinds a generator that cannot on a CPU."""
    if not _has_flag(*CHUNK_FLAGS):
        sys.argv.append(CHUNK_FLAGS[0])


def _compile_nothing() -> None:
    """vLLM compiles the count behind log-probabilities even where all is to be eager, with the first request that asks
    for some: seconds of C++ compiler, while every other request waits."""
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module("torch").compiler.set_stance("force_eager")


def _has_flag(*flags: str) -> bool:
    return any(argument.partition("=")[0].replace("_", "-") in flags for argument in sys.argv)


def _use_threads(threads: int) -> None:
    """Run the model inside the engine core with this many threads, instead of in a worker that vLLM binds to cores."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with contextlib.suppress(ImportError):
        importlib.import_module("torch").set_num_threads(threads)
    if not _has_flag(*PARALLEL_FLAGS):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        sys.argv += ["--distributed-executor-backend", "uni"]


class Host:
    """The loop: read commands, reap servers, watch the parent."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._servers: dict[int, Server] = {}
        self._parent = os.getppid()
        self._pending = b""
        self._on_cpu = False
        self._open = True

    def run(self) -> None:
        """Import vLLM, then serve commands until the parent is gone."""
        self._watch_parent_while_importing()
        try:
            self._on_cpu = import_vllm()
        except Exception as error:
            traceback.print_exc()
            missing = isinstance(error, ModuleNotFoundError) and error.name == "vllm"
            self._tell(event="unusable", reason="missing" if missing else f"{type(error).__name__}: {error}")
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, self._close)
        os.register_at_fork(after_in_child=die_with_parent)
        self._tell(event="warm")
        while self._open and os.getppid() == self._parent:
            self._read_commands()
            self._reap()
        self._end_all()

    def _watch_parent_while_importing(self) -> None:
        def look(*_signal: object) -> None:
            if os.getppid() != self._parent:
                os._exit(1)

        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)

    def _close(self, *_signal: object) -> None:
        self._open = False

    def _tell(self, **event: object) -> None:
        try:
            os.write(self._events, json.dumps(event).encode() + b"\n")
        except BrokenPipeError:
            self._open = False

    def _read_commands(self) -> None:
        readable, _, _ = select.select([0], [], [], LOOK_EVERY_S)
        if not readable:
            return
        piece = os.read(0, 65536)
        if not piece:
            self._open = False
        *lines, self._pending = (self._pending + piece).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if command["op"] == "start":
                self._start(command)
            else:
                self._stop(command["id"])

    def _start(self, command: dict[str, Any]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(self._events)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            serve_here(command, self._on_cpu)
        self._servers[command["id"]] = Server(pid, None)
        self._tell(event="started", id=command["id"], pid=pid)

    def _stop(self, number: int) -> None:
        server = self._servers.get(number)
        if server and server.kill_at is None:
            _signal_group(server.pid, signal.SIGTERM)
            self._servers[number] = server._replace(kill_at=time.monotonic() + GRACE_S)

    def _reap(self) -> None:
        for number, server in list(self._servers.items()):
            if server.kill_at is not None and time.monotonic() > server.kill_at:
                _signal_group(server.pid, signal.SIGKILL)
            # WNOWAIT keeps the process id taken until the rest of its group is gone.
            if os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _signal_group(server.pid, signal.SIGKILL)
            _, status = os.waitpid(server.pid, 0)
            del self._servers[number]
            self._tell(event="exited", id=number, status=os.waitstatus_to_exitcode(status))

    def _end_all(self) -> None:
        for number in list(self._servers):
            self._stop(number)
        while self._servers:
            self._reap()
            time.sleep(0.05)


def _signal_group(pid: int, number: signal.Signals) -> None:
    # A child that has only just been forked does not lead its group yet.
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    # What vLLM prints must not mix with the events, so they get a descriptor of their own.
    EVENTS = os.dup(1)
    os.dup2(2, 1)
    Host(EVENTS).run()
